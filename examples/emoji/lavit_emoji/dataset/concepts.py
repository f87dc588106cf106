# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The concepts that the drawings show: Unicode's emoji with their human-written names and keywords (CLDR)."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from .packages import read_members


NAMES, GROUPS, UNICODE_NAMES = "en/data.json", "meta/groups.json", "meta/unicode-names.json"
LEFT_OUT_GROUPS = {"component", "symbols", "flags"}  # skin tones and hair, signs, flags
CLOCK_FACE = re.compile(r"o.clock$|-thirty$")
MIRRORED = re.compile(r": facing right$")  # mirror images of other concepts


@dataclass(frozen=True)
class Concept:
    """
    An emoji without skin tones.

    Args:
        codepoints (`str`): Hexadecimal, joined by `-`, without variation selectors, such as `"1F9D1-200D-1F680"`.
        name (`str`): CLDR's name in a form that fits into a sentence, see [`spoken_name`].
        keywords (`tuple[str, ...]`): CLDR's keywords.
        category (`str`): Unicode's group, such as `"food-drink"`.
        subcategory (`str`): Unicode's subgroup, such as `"food-fruit"`.
        aliases (`tuple[str, ...]`): Names that icon sets may use for it: CLDR's, then Unicode's.
    """

    codepoints: str
    name: str
    keywords: tuple[str, ...]
    category: str
    subcategory: str
    aliases: tuple[str, ...]


def normalize_codepoints(text: str) -> str:
    """Codepoints in the format of [`Concept`]: in upper case and without the variation selector FE0F."""
    return "-".join(part for part in text.upper().split("-") if part != "FE0F")


def spoken_name(label: str) -> str:
    """
    CLDR's label without the characters at which answers and captions are cut off (`.`, `,`, `:`).

    `"man: red hair"` becomes `"man with red hair"`, `"man: bald"` `"bald man"` and `"family: man, woman, boy"`
    `"family of man and woman and boy"`.
    """
    head, _, tail = _plain_apostrophes(label).replace(".", "").partition(": ")
    if not tail:
        return head
    if tail == "bald":
        return f"bald {head}"
    if tail.endswith(("hair", "beard")):
        return f"{head} with {tail}"
    return f"{head} of {tail.replace(', ', ' and ')}"


def read_concepts(archive: Path) -> dict[str, Concept]:
    """
    Reads all concepts except signs, flags, skin tones, clock faces and mirror images of other concepts.

    Args:
        archive (`Path`): The package `emojibase-data`.

    Returns:
        `dict[str, Concept]`: Concepts by codepoints, in Unicode's order.

    Raises:
        `ValueError`: If the package does not contain the names.
    """
    files = read_members(archive, NAMES, GROUPS, UNICODE_NAMES)
    if not {NAMES, GROUPS, UNICODE_NAMES} <= files.keys():
        raise ValueError(f"{archive} must contain {NAMES}, {GROUPS} and {UNICODE_NAMES}.")
    records, groups, unicode_names = (json.loads(files[path]) for path in (NAMES, GROUPS, UNICODE_NAMES))
    records = [record for record in records if "group" in record and _is_wanted(record, groups)]
    concepts = [
        _concept(record, groups, unicode_names) for record in sorted(records, key=lambda record: record["order"])
    ]
    return {concept.codepoints: concept for concept in concepts}


def _plain_apostrophes(text: str) -> str:
    return text.replace("\u2019", "'")


def _is_wanted(record: dict, groups: dict) -> bool:
    label = record["label"]
    if CLOCK_FACE.search(label) or MIRRORED.search(label):
        return False
    return groups["groups"][str(record["group"])] not in LEFT_OUT_GROUPS


def _concept(record: dict, groups: dict, unicode_names: dict) -> Concept:
    unicode_name = unicode_names.get(record["hexcode"], "").lower()
    return Concept(
        codepoints=normalize_codepoints(record["hexcode"]),
        name=spoken_name(record["label"]),
        keywords=tuple(_plain_apostrophes(keyword) for keyword in record.get("tags", ())),
        category=groups["groups"][str(record["group"])],
        subcategory=groups["subgroups"][str(record["subgroup"])],
        aliases=tuple(filter(None, (record["label"], unicode_name))),
    )

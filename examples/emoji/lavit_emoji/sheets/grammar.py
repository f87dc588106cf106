# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""English for sheets of drawings: articles, plurals, and which names can stand in such sentences at all."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..dataset.texts import COLORED


NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}

KINDS_OF_THINGS = re.compile(
    r"animal-|plant-|food-|drink$|dishware|face-costume|body-parts|place-building|place-religious|transport-|hotel|time$"
    r"|sky-weather|event|award-medal|sport|game|arts-crafts|clothing|sound|music|phone|computer|light-video|book-paper"
    r"|money|mail|writing|office|lock|tool|science|medical|household|other-object|heart"
)  # subcategories; left out are faces, hands, people, feelings and landscapes
CLAUSE = re.compile(r"\b(with|without|of|on|in|and|showing|facing|up|behind|for|sent)\b")
SINGULAR_IN_S = re.compile(r"(ss|us|rhinoceros)$")
WORDS = json.loads(Path(__file__).with_suffix(".json").read_text())
NO_THINGS, MATERIALS, PLURALS = set(WORDS["no_things"]), set(WORDS["materials"]), WORDS["plurals"]
EVERYDAY_THINGS = WORDS["everyday_things"]  # names of everyday concepts that can be named
AN = re.compile(r"(?!one\b|uni|use|eur|ewe)[aeiou]|hour|herb\b|x-ray", re.IGNORECASE)


def can_be_named(row: Mapping) -> bool:
    """
    Whether the drawing of a row can stand on a sheet: it shows a thing, whose name is a noun that can be counted, or a
    bare plural (`glasses`) or material (`bread`).

    Args:
        row (`Mapping`): A row, of which `name` and `subcategory` are read.

    Returns:
        `bool`: `True` if it can.
    """
    if not KINDS_OF_THINGS.match(row["subcategory"]) or row["name"] in NO_THINGS:
        return False
    return not CLAUSE.search(row["name"]) and not re.search(r"[0-9]|^oncoming ", row["name"])


def noun_without_color(name: str) -> str:
    """The name without the color in front: `apple` for `red apple`."""
    match = COLORED.match(name)
    return match["noun"] if match else name


def is_plural(noun: str) -> bool:
    """Whether a name stands in the plural already, as `glasses` and `chopsticks` do."""
    return noun.endswith("s") and not SINGULAR_IN_S.search(noun)


def is_countable(noun: str) -> bool:
    """Whether there can be one, two or three of it."""
    return not is_plural(noun) and noun not in MATERIALS


def plural(noun: str) -> str:
    """
    The plural of a noun, of which the last word changes: `police cars`, `teddy bears`, `hot dogs`.

    Raises:
        `ValueError`: If it has none.
    """
    if not is_countable(noun):
        raise ValueError(f"{noun!r} cannot be counted.")
    head, space, last = noun.rpartition(" ")
    return head + space + PLURALS.get(last, _regular_plural(last))


def _regular_plural(word: str) -> str:
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def with_article(phrase: str, noun: str) -> str:
    """`a red apple`, `an apple`; `bread` and `glasses` stand without."""
    if not is_countable(noun):
        return phrase
    return f"an {phrase}" if AN.match(phrase) else f"a {phrase}"


def counted(noun: str, number: int, color: str | None = None) -> str:
    """
    A number of things: `a red apple`, `two dogs`, `glasses`.

    Args:
        noun (`str`): What they are.
        number (`int`): How many, from 1 to 4.
        color (`str`, *optional*): Their color.

    Returns:
        `str`: The phrase.

    Raises:
        `ValueError`: If they cannot be counted, or are too many for a sheet.
    """
    if number == 1:
        return with_article(f"{color} {noun}" if color else noun, noun)
    if number not in NUMBER_WORDS:
        raise ValueError(f"A sheet holds one to four drawings, not {number}.")
    return " ".join(filter(None, (NUMBER_WORDS[number], color, plural(noun))))


def listing(phrases: Sequence[str]) -> str:
    """Joins phrases by `and` alone, as LaVIT cuts captions and answers at a comma: `a cat and a dog and a car`."""
    return " and ".join(phrases)

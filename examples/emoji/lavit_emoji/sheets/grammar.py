# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""English grammar for the texts of sheets: articles, plurals, and which names can be used in a sentence."""

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
)  # subcategories; excludes faces, hands, people, feelings and landscapes
CLAUSE = re.compile(r"\b(with|without|of|on|in|and|showing|facing|up|behind|for|sent)\b")
SINGULAR_IN_S = re.compile(r"(ss|us|rhinoceros)$")
WORDS = json.loads(Path(__file__).with_suffix(".json").read_text())
NO_THINGS, MATERIALS, PLURALS = set(WORDS["no_things"]), set(WORDS["materials"]), WORDS["plurals"]
EVERYDAY_THINGS = WORDS["everyday_things"]  # names of everyday concepts that can be named
AN = re.compile(r"(?!one\b|uni|use|eur|ewe)[aeiou]|hour|herb\b|x-ray", re.IGNORECASE)


def can_be_named(row: Mapping) -> bool:
    """
    Whether the drawing of a row can appear on a sheet: it must show a thing whose name is a countable noun, a plural
    (`glasses`) or a material (`bread`).

    Args:
        row (`Mapping`): A row with `name` and `subcategory`.

    Returns:
        `bool`: `True` if it can.
    """
    if not KINDS_OF_THINGS.match(row["subcategory"]) or row["name"] in NO_THINGS:
        return False
    return not CLAUSE.search(row["name"]) and not re.search(r"[0-9]|^oncoming ", row["name"])


def noun_without_color(name: str) -> str:
    """The name without a leading color: `apple` for `red apple`."""
    match = COLORED.match(name)
    return match["noun"] if match else name


def is_plural(noun: str) -> bool:
    """Whether a name is a plural, such as `glasses` or `chopsticks`."""
    return noun.endswith("s") and not SINGULAR_IN_S.search(noun)


def is_countable(noun: str) -> bool:
    """Whether a noun is countable."""
    return not is_plural(noun) and noun not in MATERIALS


def plural(noun: str) -> str:
    """
    The plural of a noun; only its last word changes: `police cars`, `teddy bears`, `hot dogs`.

    Raises:
        `ValueError`: If the noun is not countable.
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
    """Adds an indefinite article: `a red apple`, `an apple`; `bread` and `glasses` have none."""
    if not is_countable(noun):
        return phrase
    return f"an {phrase}" if AN.match(phrase) else f"a {phrase}"


def counted(noun: str, number: int, color: str | None = None) -> str:
    """
    A phrase for a number of things: `a red apple`, `two dogs`, `glasses`.

    Args:
        noun (`str`): The noun.
        number (`int`): Number of things, from 1 to 4.
        color (`str`, *optional*): Their color.

    Returns:
        `str`: The phrase.

    Raises:
        `ValueError`: If the noun is not countable, or the number is too large for a sheet.
    """
    if number == 1:
        return with_article(f"{color} {noun}" if color else noun, noun)
    if number not in NUMBER_WORDS:
        raise ValueError(f"A sheet holds one to four drawings, not {number}.")
    return " ".join(filter(None, (NUMBER_WORDS[number], color, plural(noun))))


def listing(phrases: Sequence[str]) -> str:
    """Joins phrases with `and` only, because LaVIT cuts off texts at commas: `a cat and a dog and a car`."""
    return " and ".join(phrases)

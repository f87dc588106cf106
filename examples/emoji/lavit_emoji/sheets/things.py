# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The things that can be drawn on sheets: their names, their drawings, and what they might be mistaken for."""

import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from datasets import Dataset

from ..dataset.papers import WORDS
from ..dataset.texts import COLORS, KINDS, NOT_OF_ITS_KIND
from .grammar import can_be_named, is_countable, is_plural, noun_without_color


TRIES = 200  # drawings of lots before a sheet takes what it has
NOT_RECOLORED = {"rainbow"}


@dataclass(frozen=True)
class Thing:
    """
    What a sheet says that a drawing shows.

    Args:
        concept (`str`): Its codepoints.
        name (`str`): Its name in the emoji set.
        noun (`str`): What it is called on the sheet: its name, without a color where it is recolored.
        color (`str`, *optional*): The color that it is given, if any.
        subcategory (`str`): Unicode's.
        name_words (`frozenset[str]`): The words of its name, colors left out.
        all_words (`frozenset[str]`): Those and the words of its keywords.
    """

    concept: str
    name: str
    noun: str
    color: str | None
    subcategory: str
    name_words: frozenset[str]
    all_words: frozenset[str]

    @property
    def phrase(self) -> str:
        """Color and noun: `red apple`."""
        return f"{self.color} {self.noun}" if self.color else self.noun

    @property
    def kind(self) -> tuple[str, str] | None:
        """What it is a kind of, and which kind, if known: `("animal", "bird")`."""
        return None if self.name in NOT_OF_ITS_KIND else KINDS.get(self.subcategory)

    @property
    def is_countable(self) -> bool:
        return is_countable(self.noun)

    @property
    def is_plural(self) -> bool:
        return is_plural(self.noun)

    def in_color(self, color: str) -> "Thing":
        """The same thing in a color, `black cat` as `red cat`."""
        return replace(self, noun=noun_without_color(self.name), color=color)

    def may_be_mistaken_for(self, other: "Thing") -> bool:
        """Whether the name of the one has a word in common with the name or a keyword of the other."""
        return bool(self.name_words & other.all_words or other.name_words & self.all_words)


def words(*texts: str) -> frozenset[str]:
    """The words of texts in the singular, so to speak, and without colors."""
    found = re.findall(r"[\w'-]+", " ".join(texts).lower())
    return frozenset(word.removesuffix("s") for word in found if not re.fullmatch(COLORS, word))


class Things:
    """
    The things that a split of the emoji set can put on sheets.

    Args:
        drawings ([`~datasets.Dataset`]): A split of what `prepare.py` wrote.

    Raises:
        `ValueError`: If it has too few things for a sheet of four.
    """

    def __init__(self, drawings: Dataset):
        columns = drawings.select_columns(["concept", "name", "keywords", "subcategory"])
        self.rows: dict[str, list[int]] = defaultdict(list)  # drawings of each concept
        self.things: dict[str, Thing] = {}
        for index, row in enumerate(columns):
            if can_be_named(row):
                self.rows[row["concept"]].append(index)
                self.things.setdefault(row["concept"], _thing(row))
        if len(self.things) < 8:
            raise ValueError(
                f"Only {len(self.things)} things can be named on sheets, but 8 are needed. Use a larger split."
            )
        self.all = list(self.things.values())
        self.countable = [thing for thing in self.all if thing.is_countable]
        self.by_kind: dict[str, dict[str, list[Thing]]] = defaultdict(lambda: defaultdict(list))
        for thing in self.all:
            if thing.kind:
                self.by_kind[thing.kind[0]][thing.kind[1]].append(thing)

    def choose(
        self,
        chance: random.Random,
        among: list[Thing],
        beside: list[Thing],
        allowed: Callable[[Thing], bool] = lambda thing: True,
    ) -> Thing | None:
        """
        Draws a thing by lot.

        Args:
            chance (`random.Random`): Where chance comes from.
            among (`list[Thing]`): All that may be drawn.
            beside (`list[Thing]`): Things that it must not be mistaken for.
            allowed (`Callable[[Thing], bool]`, *optional*): What else must be true of it.

        Returns:
            [`Thing`] or `None`: The thing; `None` if none was found in a fair number of tries.
        """
        for _ in range(TRIES):
            thing = chance.choice(among)
            if allowed(thing) and not any(thing.may_be_mistaken_for(other) for other in beside):
                return thing
        return None


def by_lot_in_color(thing: Thing, chance: random.Random, share: float) -> Thing:
    """The thing, recolored in a share of cases, in any color with the same chance."""
    if chance.random() >= share or thing.name in NOT_RECOLORED:
        return thing
    return thing.in_color(chance.choice(list(WORDS)))


def _thing(row: dict) -> Thing:
    return Thing(
        concept=row["concept"],
        name=row["name"],
        noun=row["name"],
        color=None,
        subcategory=row["subcategory"],
        name_words=words(row["name"]),
        all_words=words(row["name"], *row["keywords"]),
    )

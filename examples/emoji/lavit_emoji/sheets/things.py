# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The things that can appear on sheets: their names and drawings, and which of them could be confused."""

import random
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from datasets import Dataset

from ..dataset.papers import WORDS
from ..dataset.texts import COLORS, KINDS, NOT_OF_ITS_KIND
from .grammar import can_be_named, is_countable, is_plural, noun_without_color


TRIES = 200  # random choices before giving up
NOT_RECOLORED = {"rainbow"}


@dataclass(frozen=True)
class Thing:
    """
    A thing as it is named on a sheet.

    Args:
        concept (`str`): Codepoints of the concept.
        name (`str`): Its name in the emoji dataset.
        noun (`str`): Its name on the sheet: the same, but without a color if it is recolored.
        color (`str`, *optional*): The color that it is recolored in.
        subcategory (`str`): Unicode's subgroup.
        name_words (`frozenset[str]`): The words of its name, without colors.
        all_words (`frozenset[str]`): The same, and the words of its keywords.
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
        """The color and the noun: `red apple`."""
        return f"{self.color} {self.noun}" if self.color else self.noun

    @property
    def kind(self) -> tuple[str, str] | None:
        """The class that it belongs to and its kind, if known: `("animal", "bird")`."""
        return None if self.name in NOT_OF_ITS_KIND else KINDS.get(self.subcategory)

    @property
    def is_countable(self) -> bool:
        return is_countable(self.noun)

    @property
    def is_plural(self) -> bool:
        return is_plural(self.noun)

    def in_color(self, color: str) -> "Thing":
        """The same thing in another color: `red cat` for `black cat`."""
        return replace(self, noun=noun_without_color(self.name), color=color)

    def may_be_mistaken_for(self, other: "Thing") -> bool:
        """Whether the name of one shares a word with the name or a keyword of the other."""
        return bool(self.name_words & other.all_words or other.name_words & self.all_words)


def words(*texts: str) -> frozenset[str]:
    """The words of texts, without colors and without a final `s`."""
    found = re.findall(r"[\w'-]+", " ".join(texts).lower())
    return frozenset(word.removesuffix("s") for word in found if not re.fullmatch(COLORS, word))


class Things:
    """
    The things in a split of the emoji dataset that can appear on sheets.

    Args:
        drawings ([`~datasets.Dataset`]): A split from `prepare.py`.

    Raises:
        `ValueError`: If there are too few things for a sheet with four drawings.
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
        Chooses a random thing.

        Args:
            chance (`random.Random`): Random number generator.
            among (`list[Thing]`): Things to choose from.
            beside (`list[Thing]`): Things that it must not be confused with.
            allowed (`Callable[[Thing], bool]`, *optional*): Another condition that it must meet.

        Returns:
            [`Thing`] or `None`: The thing; `None` if none was found within the maximum number of tries.
        """
        for _ in range(TRIES):
            thing = chance.choice(among)
            if allowed(thing) and not any(thing.may_be_mistaken_for(other) for other in beside):
                return thing
        return None


def by_lot_in_color(thing: Thing, chance: random.Random, share: float) -> Thing:
    """Recolors a thing with probability `share`, in a random color."""
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

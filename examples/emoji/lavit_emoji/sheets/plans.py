# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What goes on a sheet, by lot. Each kind of plan makes the answers to its questions equally frequent:

- `"mixed"`: one to four different things, each number as often; now and then the same thing in two colors;
- `"counted"`: one to four of the same, each number as often, and perhaps others beside them;
- `"kind"`: one thing of a class (animal, food), each kind of it as often, and others of no such class.
"""

import random
from dataclasses import dataclass

from ..dataset.papers import WORDS
from .things import Thing, Things, by_lot_in_color


MOST = 4  # drawings on a sheet
SHARES = {"mixed": 0.5, "counted": 0.3, "kind": 0.2}
RECOLORED = 0.35  # share of groups
TWO_COLORS = 0.2  # share of mixed sheets of two and more
ALONE = 0.5  # share of counted things with nothing beside them


@dataclass(frozen=True)
class Plan:
    """
    What goes on a sheet.

    Args:
        name (`str`): One of `"mixed"`, `"counted"` and `"kind"`.
        groups (`tuple[tuple[Thing, int], ...]`): Things and how many of each.
    """

    name: str
    groups: tuple[tuple[Thing, int], ...]

    @property
    def things(self) -> list[Thing]:
        """Every thing as often as it is drawn."""
        return [thing for thing, number in self.groups for _ in range(number)]


def draw_plan(things: Things, chance: random.Random, name: str | None = None, number: int | None = None) -> Plan:
    """
    Draws a plan by lot.

    Args:
        things ([`Things`]): What there is to draw.
        chance (`random.Random`): Where chance comes from.
        name (`str`, *optional*): The kind of plan; by lot if not given.
        number (`int`, *optional*): How many drawings a mixed sheet has, from 1 to 4; by lot if not given.

    Returns:
        [`Plan`]: The plan.
    """
    name = name or chance.choices(list(SHARES), list(SHARES.values()))[0]
    return PLANS[name](things, chance, number or chance.randint(1, MOST))


def _mixed(things: Things, chance: random.Random, number: int) -> Plan:
    if number >= 2 and chance.random() < TWO_COLORS:
        thing = things.choose(chance, things.countable, [])
        groups = [(thing.in_color(color), 1) for color in chance.sample(list(WORDS), 2)]
    else:
        groups = [(by_lot_in_color(chance.choice(things.all), chance, RECOLORED), 1)]
    return Plan("mixed", _with_others(things, chance, groups, number - len(groups), things.all))


def _counted(things: Things, chance: random.Random, number: int) -> Plan:
    thing = by_lot_in_color(chance.choice(things.countable), chance, RECOLORED)
    others = 0 if chance.random() < ALONE else chance.randint(0, MOST - number)
    return Plan("counted", _with_others(things, chance, [(thing, number)], others, things.all))


def _kind(things: Things, chance: random.Random, number: int) -> Plan:
    classes = [name for name, kinds in things.by_kind.items() if len(kinds) > 1]
    if not classes:
        return _mixed(things, chance, number)
    noun = chance.choice(classes)
    kinds = things.by_kind[noun]
    thing = by_lot_in_color(chance.choice(kinds[chance.choice(sorted(kinds))]), chance, RECOLORED)
    others = [other for other in things.all if not other.subcategory.startswith(f"{noun}-")]
    return Plan("kind", _with_others(things, chance, [(thing, 1)], number - 1, others))


def _with_others(
    things: Things, chance: random.Random, groups: list[tuple[Thing, int]], number: int, among: list[Thing]
) -> tuple[tuple[Thing, int], ...]:
    """Adds a number of single things that cannot be mistaken for those there are, in any order."""
    for _ in range(number):
        other = things.choose(chance, among, [thing for thing, _ in groups])
        if other is not None:
            groups.append((by_lot_in_color(other, chance, RECOLORED), 1))
    return tuple(groups)


PLANS = {"mixed": _mixed, "counted": _counted, "kind": _kind}

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Random plans of what a sheet contains. In each kind of plan, all answers to its questions are equally frequent:

- `"mixed"`: one to four different things, or the same thing in two colors; all numbers are equally frequent;
- `"counted"`: one to four of the same thing, sometimes with other things; all numbers are equally frequent;
- `"kind"`: one thing of a class (such as animal or food), and other things that don't belong to this class; all kinds
  of a class are equally frequent.
"""

import random
from dataclasses import dataclass

from ..dataset.papers import WORDS
from .things import Thing, Things, by_lot_in_color


MOST = 4  # drawings on a sheet
SHARES = {"mixed": 0.5, "counted": 0.3, "kind": 0.2}
RECOLORED = 0.35  # share of groups
TWO_COLORS = 0.2  # share of mixed sheets with two or more drawings
ALONE = 0.5  # share of counted sheets without other things


@dataclass(frozen=True)
class Plan:
    """
    The contents of a sheet.

    Args:
        name (`str`): `"mixed"`, `"counted"` or `"kind"`.
        groups (`tuple[tuple[Thing, int], ...]`): The things, with the number of each.
    """

    name: str
    groups: tuple[tuple[Thing, int], ...]

    @property
    def things(self) -> list[Thing]:
        """The things, each repeated as often as it is drawn."""
        return [thing for thing, number in self.groups for _ in range(number)]


def draw_plan(things: Things, chance: random.Random, name: str | None = None, number: int | None = None) -> Plan:
    """
    Creates a random plan.

    Args:
        things ([`Things`]): Things to choose from.
        chance (`random.Random`): Random number generator.
        name (`str`, *optional*): Kind of plan; random by default.
        number (`int`, *optional*): Number of drawings on a mixed sheet, from 1 to 4; random by default.

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
    """Adds random single things that can't be confused with those that are already there."""
    for _ in range(number):
        other = things.choose(chance, among, [thing for thing, _ in groups])
        if other is not None:
            groups.append((by_lot_in_color(other, chance, RECOLORED), 1))
    return tuple(groups)


PLANS = {"mixed": _mixed, "counted": _counted, "kind": _kind}

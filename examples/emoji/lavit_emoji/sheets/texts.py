# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Texts about a sheet: its caption, and questions that can't be answered from their words alone.

A question is asked only if its answer is unambiguous: `left of` requires one drawing that is entirely to the left, and
no other that could be meant. Yes and no are equally likely. Absent things that are asked for come from another plan of
the same kind, so that the same things are asked for equally often when they are present.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..dataset.papers import WORDS
from .grammar import counted, listing, plural, with_article
from .plans import Plan
from .things import Thing


@dataclass(frozen=True)
class Placed:
    """
    A thing on a sheet.

    Args:
        thing ([`Thing`]): The thing.
        row (`int`): Row of its drawing in the split.
        box (`tuple[int, int, int, int]`): Left, top, right and bottom, in pixels.
    """

    thing: Thing
    row: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Question:
    """A question about a sheet, with its answer and its kind: `number`, `color`, `place`, `kind` or `yes_no`."""

    kind: str
    text: str
    answer: str


IS_IT_THERE = 0.6  # share of yes-or-no questions
SIDES = {"left of": (0, 2, -1), "right of": (0, 2, 1), "above": (1, 3, -1), "below": (1, 3, 1)}


def caption(placed: Sequence[Placed]) -> str:
    """
    The caption of a sheet, in the order of `placed`, with identical things combined: `two red dogs and a cat`. A sheet
    with one drawing has the same kind of caption as a drawing that is not on a sheet, `red dog`, because the two look
    alike.
    """
    numbers = Counter(item.thing for item in placed)
    if len(placed) == 1:
        return placed[0].thing.phrase
    return listing([counted(thing.noun, number, thing.color) for thing, number in numbers.items()])


def questions(plan: Plan, placed: Sequence[Placed], elsewhere: Plan, chance: random.Random) -> list[Question]:
    """
    Questions about a sheet, at most one of each kind.

    Args:
        plan ([`Plan`]): The plan of the sheet.
        placed (`Sequence[Placed]`): The things and their positions.
        elsewhere ([`Plan`]): Another plan of the same kind, with things to ask for that are absent.
        chance (`random.Random`): Random number generator.

    Returns:
        `list[Question]`: The questions.
    """
    asked = [_number(plan), _color(placed, chance), _place(placed, chance), _kind(plan)]
    return [question for question in (*asked, _yes_no(placed, elsewhere, chance)) if question]


def beside(first: Placed, second: Placed) -> str | None:
    """
    The position of the first drawing relative to the second, if it is unambiguous: the drawings are separate in this
    direction, and farther apart in it than in the other.

    Returns:
        `str` or `None`: `"left of"`, `"right of"`, `"above"` or `"below"`.
    """
    middles = [[(item.box[i] + item.box[i + 2]) / 2 for i in (0, 1)] for item in (first, second)]
    across, down = (abs(middles[0][i] - middles[1][i]) for i in (0, 1))
    for side, (low, high, sign) in SIDES.items():
        near, far = (first, second) if sign < 0 else (second, first)
        if near.box[high] <= far.box[low] and (across > down) == (low == 0):
            return side
    return None


def _the(item: Placed, placed: Sequence[Placed]) -> str:
    """The noun with `the`, and with its color if there are other things with the same noun."""
    alone = sum(other.thing.noun == item.thing.noun for other in placed) == 1
    return f"the {item.thing.noun if alone else item.thing.phrase}"


def _number(plan: Plan) -> Question | None:
    if plan.name == "mixed":
        return Question("number", "How many drawings are there?", str(len(plan.things)))
    if plan.name != "counted":
        return None
    thing, number = plan.groups[0]
    return Question("number", f"How many {plural(thing.noun)} are there?", str(number))


def _color(placed: Sequence[Placed], chance: random.Random) -> Question | None:
    options = _of_one_color(placed)
    if not options:
        return None
    thing = chance.choice(options)
    return Question("color", f"What color {_is_the(thing, placed)}?", thing.color)


def _of_one_color(placed: Sequence[Placed]) -> list[Thing]:
    """The recolored things that don't appear in any other color."""
    colors = {}
    for item in placed:
        colors.setdefault(item.thing.noun, set()).add(item.thing.color)
    return list(dict.fromkeys(item.thing for item in placed if item.thing.color and len(colors[item.thing.noun]) == 1))


def _is_the(thing: Thing, placed: Sequence[Placed]) -> str:
    """`is the apple`, `are the apples`, `are the glasses`."""
    number = sum(item.thing == thing for item in placed)
    noun = thing.noun if number == 1 else plural(thing.noun)
    return f"{'are' if number > 1 or thing.is_plural else 'is'} the {noun}"


def _singles(placed: Sequence[Placed]) -> list[Placed]:
    numbers = Counter(item.thing for item in placed)
    return [item for item in placed if numbers[item.thing] == 1]


def _place(placed: Sequence[Placed], chance: random.Random) -> Question | None:
    options = []
    for item in _singles(placed):
        for side in SIDES:
            there = [other for other in placed if other is not item and _may_be(other, side, item)]
            if len(there) == 1 and beside(there[0], item) == side:
                options.append((side, item, there[0]))
    if not options:
        return None
    side, item, answer = chance.choice(options)
    return Question("place", f"What is {side} {_the(item, placed)}?", answer.thing.phrase)


def _may_be(other: Placed, side: str, item: Placed) -> bool:
    """Whether the center of a drawing is on that side of the other's center, no matter how far."""
    low, high, sign = SIDES[side]
    return sign * (other.box[low] + other.box[high] - item.box[low] - item.box[high]) > 0


def _kind(plan: Plan) -> Question | None:
    if plan.name != "kind":
        return None
    noun, kind = plan.groups[0][0].kind
    return Question("kind", f"What kind of {noun} is there?", kind)


def _yes_no(placed: Sequence[Placed], elsewhere: Plan, chance: random.Random) -> Question | None:
    """The type of question must not depend on the sheet, because it would then give a hint about the answer."""
    if chance.random() < IS_IT_THERE:
        options = [_is_it_there(placed, elsewhere, chance)]
    else:
        options = [_has_it_this_color(placed, chance), _is_it_beside(placed, chance)]
    options = [option for option in options if option]
    return Question("yes_no", *chance.choice(options)) if options else None


def _is_it_there(placed: Sequence[Placed], elsewhere: Plan, chance: random.Random) -> tuple[str, str] | None:
    """Asks for a thing of this sheet or of another one that can't be confused with any thing of the other sheet."""
    answer = chance.choice(("yes", "no"))
    here, there = [item.thing for item in placed], elsewhere.things
    asked, other = (here, there) if answer == "yes" else (there, here)
    options = [thing for thing in asked if not any(thing.may_be_mistaken_for(seen) for seen in other)]
    if not options:
        return None
    thing = chance.choice(options)
    return f"{'Are' if thing.is_plural else 'Is'} there {with_article(thing.phrase, thing.noun)}?", answer


def _has_it_this_color(placed: Sequence[Placed], chance: random.Random) -> tuple[str, str] | None:
    options = _of_one_color(placed)
    if not options:
        return None
    thing, answer = chance.choice(options), chance.choice(("yes", "no"))
    color = thing.color if answer == "yes" else chance.choice([word for word in WORDS if word != thing.color])
    sentence = f"{_is_the(thing, placed)} {color}?"
    return sentence[0].upper() + sentence[1:], answer


def _is_it_beside(placed: Sequence[Placed], chance: random.Random) -> tuple[str, str] | None:
    singles = _singles(placed)
    pairs = [(a, b) for a in singles for b in singles if a is not b and beside(a, b)]
    if not pairs:
        return None
    (first, second), answer = chance.choice(pairs), chance.choice(("yes", "no"))
    side = beside(first, second)
    if answer == "no":
        first, second = second, first
    verb = "Are" if first.thing.is_plural else "Is"
    return f"{verb} {_the(first, placed)} {side} {_the(second, placed)}?", answer

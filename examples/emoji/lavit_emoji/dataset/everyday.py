# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The everyday concepts: those that the first lavit-emoji was trained on last, so that figures are comparable.

They are listed in `everyday.json`: the concepts that were drawn by all seven artists with the use `"train"`, except
for people in roles and families and the fifty concepts that were held out at the time. The first version wasn't
trained on their drawings in `test_drawings` either.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path


@cache
def everyday_concepts() -> dict[str, str]:
    """The names of the everyday concepts by codepoints, in Unicode's order."""
    return json.loads(Path(__file__).with_suffix(".json").read_text())


def is_everyday(row: Mapping) -> bool:
    """
    Whether a row of the emoji dataset shows an everyday concept.

    Args:
        row (`Mapping`): A row with `concept`.

    Returns:
        `bool`: `True` if it does.
    """
    return row["concept"] in everyday_concepts()


def spread_concepts(number: int) -> set[str]:
    """
    A few everyday concepts of all kinds, for short experiments.

    Args:
        number (`int`): Number of concepts.

    Returns:
        `set[str]`: Their codepoints, evenly spaced in Unicode's order.

    Raises:
        `ValueError`: If there aren't that many.
    """
    concepts = list(everyday_concepts())
    if not 1 <= number <= len(concepts):
        raise ValueError(f"There are 1 to {len(concepts)} everyday concepts to choose from, not {number}.")
    return {concepts[place * len(concepts) // number] for place in range(number)}

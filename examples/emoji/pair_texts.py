# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Creates the texts of an image for stage 2, for the setting `text_function` of `examples/pretokenize.py`."""

import random
import re
from collections.abc import Mapping

from lavit_emoji.dataset.texts import QUESTION, prompts, sheet_texts, training_texts
from lavit_emoji.sheets.grammar import EVERYDAY_THINGS, is_plural, with_article
from lavit_emoji.sheets.things import words


# Styles in color. LaVIT learns to write their unmodified drawings, and some sheets with two drawings.
WRITTEN_STYLES = frozenset(
    ("noto", "noto-v1", "twemoji", "fluent-3d", "fluent-flat", "emojione", "fxemoji", "streamline-emojis")
)
TWO_THINGS = re.compile(r"an? ((?! and ).)+ and an? ((?! and ).)+")
SHEETS_WRITTEN = 24  # one in this many sheets with two drawings is written
COMPARING = re.compile(r"Question: (Is|Are) |left of|right of|above|below")  # takes the longest to learn


def pair_texts(row: Mapping) -> dict[str, list[str] | bool]:
    """
    The texts that can follow or precede the image of a row. Training picks one of them at random each time, so the
    caption is repeated to be as frequent as all questions together, and questions that compare are included twice.

    Args:
        row (`Mapping`): A row from `cache_features.py`, of a drawing or a sheet. Rows of sheets contain questions.

    Returns:
        `dict[str, list[str] | bool]`: `texts` (caption and questions), `prompts`, and `written`: whether LaVIT learns
        to write the image, which excludes drawings without colors, modified views, and most sheets.
    """
    is_sheet = bool(row.get("questions"))
    caption, *asked = sheet_texts(row) if is_sheet else training_texts(row) + is_it_texts(row)
    asked += [text for text in asked if is_sheet and COMPARING.search(text)]
    return {
        "texts": [caption] * max(len(asked), 1) + asked,
        "prompts": [caption] if is_sheet else prompts(row),
        "written": is_written_sheet(row) if is_sheet else is_written_drawing(row),
    }


def is_it_texts(row: Mapping) -> list[str]:
    """
    Two questions about the drawing of an everyday thing: whether it is that thing, and whether it is a random other
    thing that shares no word with it: `Question: Is this a cat? Answer: yes`, `Question: Is this a bus? Answer: no`.
    """
    if row["name"] not in EVERYDAY_THINGS:
        return []
    said = words(row["name"], *row["keywords"])
    others = [name for name in EVERYDAY_THINGS if not words(name) & said]
    other = random.Random(f"{row['row']}/{row['view']}").choice(others)
    return [_is_this(row["name"], "yes"), _is_this(other, "no")]


def _is_this(name: str, answer: str) -> str:
    asked = f"Are these {name}?" if is_plural(name) else f"Is this {with_article(name, name)}?"
    return f"{QUESTION.format(asked)} {answer}"


def is_written_drawing(row: Mapping) -> bool:
    """Whether LaVIT learns to write a drawing: only if it is unmodified and in color."""
    return row["view"] == 0 and row["style"] in WRITTEN_STYLES


def is_written_sheet(row: Mapping) -> bool:
    """Whether LaVIT learns to write a sheet: only few sheets with two things, so that most images are drawings."""
    return row["row"] % SHEETS_WRITTEN == 0 and bool(TWO_THINGS.fullmatch(row["name"]))

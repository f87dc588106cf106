# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The texts of an emoji for stage 2, as `examples/pretokenize.py` takes them by its setting `text_function`."""

import random
import re
from collections.abc import Mapping

from lavit_emoji.dataset.texts import QUESTION, prompts, sheet_texts, training_texts
from lavit_emoji.sheets.grammar import EVERYDAY_THINGS, is_plural, with_article
from lavit_emoji.sheets.things import words


# Artists who draw in color: what LaVIT learns to write is drawings of theirs as they are, and sheets of two of them.
WRITTEN_STYLES = frozenset(
    ("noto", "noto-v1", "twemoji", "fluent-3d", "fluent-flat", "emojione", "fxemoji", "streamline-emojis")
)
TWO_THINGS = re.compile(r"an? ((?! and ).)+ and an? ((?! and ).)+")
SHEETS_WRITTEN = 24  # one in so many of those
COMPARING = re.compile(r"Question: (Is|Are) |left of|right of|above|below")  # takes longest to learn


def pair_texts(row: Mapping) -> dict[str, list[str] | bool]:
    """
    The texts that may stand behind and before the image of a row. One of them is drawn every time, so the caption
    stands as often as all questions together, and questions that compare stand twice.

    Args:
        row (`Mapping`): A row of features that `cache_features.py` wrote: of a drawing, or of a sheet, which brings
            its questions along.

    Returns:
        `dict[str, list[str] | bool]`: `texts` (caption and questions), `prompts`, and whether the image is to be
        `written`, which outlines, strange papers and bad copies are not.
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
    Asks of the drawing of an everyday thing whether it is that, and whether it is another, which is drawn by lot and
    has no word in common with it: `Question: Is this a cat? Answer: yes`, `Question: Is this a bus? Answer: no`.
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
    """Whether LaVIT learns to write a drawing: as its artist drew it, in color."""
    return row["view"] == 0 and row["style"] in WRITTEN_STYLES


def is_written_sheet(row: Mapping) -> bool:
    """Whether LaVIT learns to write a sheet: of two things, and few, so that single drawings are most of it."""
    return row["row"] % SHEETS_WRITTEN == 0 and bool(TWO_THINGS.fullmatch(row["name"]))

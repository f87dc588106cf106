# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The texts of an emoji for stage 2, as `examples/pretokenize.py` takes them by its setting `text_function`."""

import re
from collections.abc import Mapping

from texts import prompts, sheet_texts, training_texts


# Artists who draw in color: what LaVIT learns to write is drawings of theirs as they are, and sheets of two of them.
WRITTEN_STYLES = frozenset(
    ("noto", "noto-v1", "twemoji", "fluent-3d", "fluent-flat", "emojione", "fxemoji", "streamline-emojis")
)
TWO_THINGS = re.compile(r"an? ((?! and ).)+ and an? ((?! and ).)+")
SHEETS_WRITTEN = 3  # every third of those


def pair_texts(row: Mapping) -> dict[str, list[str] | bool]:
    """
    The texts that may stand behind and before the image of a row. One of them is drawn every time, so the caption
    stands as often as all questions together.

    Args:
        row (`Mapping`): A row of features that `cache_features.py` wrote: of a drawing, or of a sheet, which brings
            its questions along.

    Returns:
        `dict[str, list[str] | bool]`: `texts` (caption and questions), `prompts`, and whether the image is to be
        `written`, which outlines, strange papers and bad copies are not.
    """
    is_sheet = bool(row.get("questions"))
    texts = sheet_texts(row) if is_sheet else training_texts(row)
    captions = [texts[0]] * max(len(texts) - 2, 0)  # and one more at the head of the texts
    return {
        "texts": captions + texts,
        "prompts": texts[:1] if is_sheet else prompts(row),
        "written": is_written_sheet(row) if is_sheet else is_written_drawing(row),
    }


def is_written_drawing(row: Mapping) -> bool:
    """Whether LaVIT learns to write a drawing: as its artist drew it, in color."""
    return row["view"] == 0 and row["style"] in WRITTEN_STYLES


def is_written_sheet(row: Mapping) -> bool:
    """Whether LaVIT learns to write a sheet: of two things, and few, so that single drawings are most of it."""
    return row["row"] % SHEETS_WRITTEN == 0 and bool(TWO_THINGS.fullmatch(row["name"]))

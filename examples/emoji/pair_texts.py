# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The texts of an emoji for stage 2, as `examples/pretokenize.py` takes them by its setting `text_function`."""

from collections.abc import Mapping

from texts import prompts, sheet_texts, training_texts


def pair_texts(row: Mapping) -> dict[str, list[str]]:
    """
    The texts that may stand behind and before the picture of a row. One of them is drawn every time, so the caption
    stands as often as all questions together.

    Args:
        row (`Mapping`): A row of features that `cache_features.py` wrote: of a drawing, or of a sheet, which brings
            its questions along.

    Returns:
        `dict[str, list[str]]`: `texts` (caption and questions) and `prompts`.
    """
    is_sheet = bool(row.get("questions"))
    texts = sheet_texts(row) if is_sheet else training_texts(row)
    captions = [texts[0]] * max(len(texts) - 2, 0)  # and one more at the head of the texts
    return {"texts": captions + texts, "prompts": texts[:1] if is_sheet else prompts(row)}

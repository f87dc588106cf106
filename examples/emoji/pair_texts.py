# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The texts of an emoji for stage 2, as `examples/pretokenize.py` takes them by its setting `text_function`."""

from collections.abc import Mapping

from texts import caption, prompts, training_texts


def pair_texts(row: Mapping) -> dict[str, list[str]]:
    """
    The texts that may stand behind and before the picture of a row. One of them is drawn every time, so the caption
    stands as often as all questions together.

    Args:
        row (`Mapping`): A row of the emoji set.

    Returns:
        `dict[str, list[str]]`: `texts` (caption and questions) and `prompts`.
    """
    texts = training_texts(row)
    num_questions = len(texts) - 1
    return {"texts": [caption(row)] * (num_questions - 1) + texts, "prompts": prompts(row)}

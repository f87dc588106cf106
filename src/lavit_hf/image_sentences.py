# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Images among the ids of the language model: finds the codes of an image that was written or read."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase


def find_codes(
    image_token_ids: torch.Tensor | Sequence[int], tokenizer: PreTrainedTokenizerBase, codebook_size: int
) -> torch.Tensor:
    """
    The codes of an image.

    Args:
        image_token_ids (`torch.LongTensor` or `Sequence[int]` of shape `(sequence_length,)`):
            Ids of the language model, as `get_image_tokens` and `generate` give them. A prompt in front, which ends
            with `[IMG]`, and special tokens are passed over.
        tokenizer (`PreTrainedTokenizerBase`):
            LaVIT's tokenizer, which knows the ids of the marks. Code 0 stands right behind them.
        codebook_size (`int`):
            Number of codes.

    Returns:
        `torch.LongTensor` of shape `(kept,)`, with values in `[0, codebook_size)`.

    Raises:
        ValueError: If there is no code among the ids, or one that stands for neither a code nor a special token.
    """
    ids = torch.as_tensor(image_token_ids)
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex():
        raise ValueError(
            f"the ids of an image must be a 1-D tensor of integers, got {ids.dtype} of {tuple(ids.shape)}."
        )
    first_code = tokenizer.image_end_token_id + 1
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    codes = ids - first_code
    is_code = (codes >= 0) & (codes < codebook_size)
    foreign = ~(is_code | special)
    start = _end_of_prompt(ids == tokenizer.image_start_token_id, foreign)
    if foreign[start:].any():
        raise ValueError(
            f"id {int(ids[start:][foreign[start:]][0])} is no image token: codes have the ids {first_code} to "
            f"{first_code + codebook_size - 1}."
        )
    codes = codes[start:][is_code[start:]]
    if len(codes) == 0:
        raise ValueError("there is no code among the ids, and an image needs at least one.")
    return codes


def _end_of_prompt(marks: torch.Tensor, foreign: torch.Tensor) -> int:
    """Where the `[IMG]` behind the last word of a prompt stands, or 0 if there is no prompt."""
    if not foreign.any():
        return 0
    last_word = int(foreign.nonzero()[-1])
    behind = marks[last_word:].nonzero()
    return last_word + int(behind[0]) if len(behind) else 0

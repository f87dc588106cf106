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
            Ids of the language model, as `get_image_tokens` and `generate` give them. The image begins behind the last
            `[IMG]`, so that a prompt in front is passed over, and ends at `[/IMG]`. Bare codes do as well.
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
    ids = _cut_out_image(ids, tokenizer.image_start_token_id, tokenizer.image_end_token_id)
    codes = ids - (tokenizer.image_end_token_id + 1)
    is_code = (codes >= 0) & (codes < codebook_size)
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    if (foreign := ids[~(is_code | special)]).numel():
        first_code = tokenizer.image_end_token_id + 1
        raise ValueError(
            f"id {int(foreign[0])} is no image token: codes have the ids {first_code} to "
            f"{first_code + codebook_size - 1}."
        )
    if not is_code.any():
        raise ValueError("there is no code among the ids, and an image needs at least one.")
    return codes[is_code]


def _cut_out_image(ids: torch.Tensor, start_id: int, end_id: int) -> torch.Tensor:
    starts = (ids == start_id).nonzero()
    if len(starts):
        ids = ids[int(starts[-1]) + 1 :]
    ends = (ids == end_id).nonzero()
    return ids[: int(ends[0])] if len(ends) else ids

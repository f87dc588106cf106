# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Packing: puts the samples of a batch into few full rows, without attention between samples."""

from dataclasses import dataclass
from heapq import heappop, heappush

import torch

from ..lavit.modeling_layers import IGNORE_INDEX


@dataclass
class PackedBatch:
    """
    Samples packed into rows. Positions start at 0 in each sample, which is how transformers' masks separate samples
    without an attention mask. Padding at the end of a row counts as another sample.

    Args:
        token_numbers (`torch.LongTensor` of shape `(num_rows, row_length)`):
            Index in the batch of each token. Packing indices instead of embeddings allows a single gather; the
            gradient of each slice of a batch would be as large as the batch.
        position_ids (`torch.LongTensor` of shape `(num_rows, row_length)`):
            Positions within the sample.
        labels (`torch.LongTensor` of shape `(num_rows, row_length)`):
            Targets. The first id of a sample is not a target, since nothing precedes it.
        num_tokens (`int`):
            Number of tokens without padding.
    """

    token_numbers: torch.Tensor
    position_ids: torch.Tensor
    labels: torch.Tensor
    num_tokens: int

    def in_one_row(self) -> "PackedBatch":
        """Returns all rows concatenated into one, as flash attention requires."""
        parts = (self.token_numbers, self.position_ids, self.labels)
        return PackedBatch(*(part.flatten()[None] for part in parts), self.num_tokens)


def first_fit(lengths: list[int], capacity: int) -> list[list[int]]:
    """
    Assigns samples to rows, longest first, each to the first row with enough room.

    Args:
        lengths (`list[int]`):
            Lengths of the samples.
        capacity (`int`):
            Maximum number of tokens per row. A longer sample gets its own row.

    Returns:
        `list[list[int]]`: The indices of the samples in each row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    # Two heaps avoid checking every row for every sample. Samples only get shorter, so a row with enough room for one
    # has enough for all that follow, until a sample is added to it.
    with_room: list[int] = []  # rows, the first on top
    too_full: list[tuple[int, int]] = []  # (-room, row), the row with the most room on top
    for sample in sorted(range(len(lengths)), key=lambda sample: -lengths[sample]):
        length = lengths[sample]
        while too_full and -too_full[0][0] >= length:
            heappush(with_room, heappop(too_full)[1])
        if with_room:
            row = heappop(with_room)
        else:
            row = len(rows)
            rows.append([])
            room.append(capacity)
        rows[row].append(sample)
        room[row] -= length
        heappush(too_full, (-room[row], row))
    return rows


def pack(
    token_numbers: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor, capacity: int | None = None
) -> PackedBatch:
    """
    Packs a padded batch.

    Args:
        token_numbers (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Indices of the tokens.
        attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Zero for padding, on either side.
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Targets, aligned with the tokens.
        capacity (`int`, *optional*):
            Maximum number of tokens per row. By default, each sample gets its own row.

    Returns:
        [`PackedBatch`]. Padding has the index 0.
    """
    real = attention_mask.bool()
    lengths = real.sum(dim=1).tolist()
    rows = [[sample] for sample in range(len(lengths))] if capacity is None else first_fit(lengths, capacity)
    filled = [sum(lengths[sample] for sample in row) for row in rows]
    width = max(filled)
    starts = torch.tensor(_find_starts(rows, lengths, width), device=real.device)

    positions = real.cumsum(dim=1) - 1
    places = (starts[:, None] + positions)[real]
    padding_positions = torch.arange(width, device=real.device) - torch.tensor(filled, device=real.device)[:, None]

    def move(source: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
        return into.flatten().index_copy(0, places, source[real]).view(len(rows), width)

    return PackedBatch(
        token_numbers=move(token_numbers, torch.zeros_like(padding_positions)),
        position_ids=move(positions, padding_positions),
        labels=move(
            labels.masked_fill(positions == 0, IGNORE_INDEX), torch.full_like(padding_positions, IGNORE_INDEX)
        ),
        num_tokens=sum(lengths),
    )


def _find_starts(rows: list[list[int]], lengths: list[int], width: int) -> list[int]:
    """Returns the start of each sample, counted over all rows, which have length `width`."""
    starts = [0] * len(lengths)
    for number, row in enumerate(rows):
        start = number * width
        for sample in row:
            starts[sample] = start
            start += lengths[sample]
    return starts


__all__ = ["PackedBatch", "first_fit", "pack"]

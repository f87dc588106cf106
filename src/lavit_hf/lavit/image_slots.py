# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Image slots: where an image stands in a sequence of ids before it is known how many patches it keeps.

A slot is `[IMG]` with `[/IMG]` right behind it. Filling it puts the image's rows between the two marks, or in place
of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch


# The label that the loss passes over.
IGNORE_INDEX = -100


@dataclass
class FilledSequence:
    """
    A batch of sequences with their images in place, padded on the left.

    Args:
        inputs_embeds (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`):
            Embeddings of text and images.
        attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Zero where there is padding.
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Targets; an image in a slot is a condition, never a target.
    """

    inputs_embeds: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor | None = None


def find_image_slots(input_ids: torch.Tensor, start_id: int, end_id: int) -> torch.Tensor:
    """`(batch_size, sequence_length)`, true where an `[IMG]` opens a slot."""
    opens = torch.zeros_like(input_ids, dtype=torch.bool)
    opens[:, :-1] = (input_ids[:, :-1] == start_id) & (input_ids[:, 1:] == end_id)
    return opens


def check_image_slots(opens: torch.Tensor, num_images: int) -> None:
    """Raises a `ValueError` where the slots that `opens` marks are not as many as the images."""
    num_slots = int(opens.sum())
    if num_slots != num_images:
        raise ValueError(
            f"the prompts hold {num_slots} image slots, but {num_images} images were given: "
            "every image needs one slot, `[IMG][/IMG]`, as the processor makes it."
        )


def fill_image_slots(
    opens: torch.Tensor,
    inputs_embeds: torch.Tensor,
    image_rows: list[torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    keep_marks: bool = True,
) -> FilledSequence:
    """
    Puts images into their slots.

    Args:
        opens (`torch.BoolTensor` of shape `(batch_size, sequence_length)`):
            What [`find_image_slots`] returns.
        inputs_embeds (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`):
            Embeddings of the ids, marks included.
        image_rows (`list[torch.Tensor]`, each of shape `(kept, hidden_size)`):
            One entry for each slot, in the order of the batch.
        attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Zero where there is padding, on either side.
        labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Targets of the ids.
        keep_marks (`bool`, *optional*, defaults to `True`):
            Whether the marks stay around the rows.

    Returns:
        [`FilledSequence`].

    Raises:
        ValueError: If slots and images differ in number.
    """
    check_image_slots(opens, len(image_rows))
    real = torch.ones_like(opens) if attention_mask is None else attention_mask.bool()
    rows = iter(image_rows)
    embeds, targets = [], []
    for sample in range(opens.shape[0]):
        sample_embeds, sample_targets = _fill_sample(
            opens[sample, real[sample]].nonzero().flatten().tolist(),
            inputs_embeds[sample, real[sample]],
            rows,
            None if labels is None else labels[sample, real[sample]],
            keep_marks,
        )
        embeds.append(sample_embeds)
        targets.append(sample_targets)
    return FilledSequence(
        inputs_embeds=pad_left(embeds, 0),
        attention_mask=pad_left([torch.ones_like(sample[:, 0], dtype=torch.long) for sample in embeds], 0),
        labels=None if labels is None else pad_left(targets, IGNORE_INDEX),
    )


def _fill_sample(
    starts: list[int],
    embeds: torch.Tensor,
    image_rows: Iterator[torch.Tensor],
    labels: torch.Tensor | None,
    keep_marks: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Fills the slots that begin at `starts` in one sample without padding."""
    pieces, targets, done = [], [], 0
    marks = int(keep_marks)  # how many marks stay on either side of the rows
    for start in starts:
        rows = next(image_rows).to(embeds)
        end = start + 2
        pieces += [embeds[done : start + marks], rows, embeds[end - marks : end]]
        if labels is not None:
            targets += [labels[done:start], labels.new_full((rows.shape[0] + 2 * marks,), IGNORE_INDEX)]
        done = end
    filled = torch.cat([*pieces, embeds[done:]])
    if labels is None:
        return filled, None
    return filled, torch.cat([*targets, labels[done:]])


def pad_left(sequences: list[torch.Tensor], value: float) -> torch.Tensor:
    """Stacks tensors of shape `(length, ...)` to `(batch_size, longest, ...)`, padded with `value` on the left."""
    return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value, padding_side="left")

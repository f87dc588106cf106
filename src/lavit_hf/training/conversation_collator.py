# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Collates conversations: formatted with the processor's chat template, with only the answers as targets."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.modeling_layers import IGNORE_INDEX, find_image_slots, pad_left
from ..lavit.processing_lavit import LaVITProcessor
from .errors import TrainingError


class _Sequence(NamedTuple):
    input_ids: torch.Tensor  # (length,)
    labels: torch.Tensor
    pixel_values: torch.Tensor | None  # (num_images, channels, height, width)


class ConversationCollator:
    """
    Formats conversations as [`~LaVITProcessor.apply_chat_template`] does for inference, and batches them. The targets
    are the answers, each with its end of sequence.

    A conversation of more than `max_text_length` tokens, not counting image marks, is truncated and counted in
    `num_cut`; images after the cut are dropped.

    Args:
        processor ([`LaVITProcessor`]):
            LaVIT's processor, whose chat template marks answers.
        config ([`LaVITConfig`]):
            The model's configuration.
        max_text_length (`int`):
            Maximum number of tokens per conversation.
        most_images (`int`, *optional*, defaults to 1):
            Maximum number of images per conversation.

    Raises:
        TrainingError: If the longest conversation would not fit into the language model's context, or the chat
            template does not mark answers.
    """

    def __init__(self, processor: LaVITProcessor, config: LaVITConfig, max_text_length: int, most_images: int = 1):
        self.processor = processor
        self.max_text_length = max_text_length
        self._num_cut = torch.zeros(1, dtype=torch.long).share_memory_()  # shared with the loading processes
        self._check_context(config, most_images)
        self._check_template()

    @property
    def num_cut(self) -> int:
        """Number of conversations truncated so far."""
        return int(self._num_cut)

    def __call__(self, chats: Sequence[list[dict]]) -> dict[str, torch.Tensor]:
        sequences = [self._cut(self._lay_out(chat)) for chat in chats]
        batch = {
            "input_ids": pad_left([row.input_ids for row in sequences], self.processor.pad_token_id),
            "attention_mask": pad_left([torch.ones_like(row.input_ids) for row in sequences], 0),
            "labels": pad_left([row.labels for row in sequences], IGNORE_INDEX),
        }
        images = [row.pixel_values for row in sequences if row.pixel_values is not None]
        return batch | ({"pixel_values": torch.cat(images)} if images else {})

    def _lay_out(self, chat: list[dict]) -> _Sequence:
        inputs = self.processor.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        ids, is_answer = (torch.as_tensor(inputs[name][0]) for name in ("input_ids", "assistant_masks"))
        end = self.processor.eos_token_id
        if ids[-1] != end:  # the template does not add it
            ids, is_answer = (torch.cat([row, row.new_tensor([value])]) for row, value in ((ids, end), (is_answer, 1)))
        labels = ids.masked_fill(~is_answer.bool(), IGNORE_INDEX)
        return _Sequence(ids, labels, inputs.get("pixel_values"))

    def _cut(self, row: _Sequence) -> _Sequence:
        opens = find_image_slots(row.input_ids[None], *self.processor.image_token_ids)[0]
        is_mark = opens | opens.roll(1)
        is_kept = (~is_mark).cumsum(dim=0) <= self.max_text_length
        if is_kept.all():
            return row
        self._num_cut += 1
        num_images = int(opens[is_kept].sum())
        pixel_values = row.pixel_values[:num_images] if num_images else None
        return _Sequence(row.input_ids[is_kept], row.labels[is_kept], pixel_values)

    def _check_context(self, config: LaVITConfig, most_images: int) -> None:
        longest = self.max_text_length + most_images * (config.visual_tokenizer_config.num_patches + 2) + 1
        context = getattr(config.text_config, "max_position_embeddings", None) or longest
        if longest > context:
            raise TrainingError(
                f"a conversation with {most_images} images may be {longest} tokens long, but the language model's "
                f"context ends at {context}. Lower max_text_length, or remove conversations with that many images."
            )

    def _check_template(self) -> None:
        chat = [{"role": role, "content": "a"} for role in ("user", "assistant")]
        inputs = self.processor.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        if not torch.as_tensor(inputs["assistant_masks"]).any():
            raise TrainingError(
                "the processor's chat template does not mark answers with {% generation %}. Save the repo's "
                "processor again with the default template, or pass one that does."
            )


__all__ = ["ConversationCollator"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Prompts that ask for an image, one by one, so that they can be repeated and put into batches anew."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..lavit.modeling_layers import find_image_slots, pad_left
from ..lavit.processing_lavit import LaVITProcessor


@dataclass
class ImagePrompt:
    """
    One prompt.

    Args:
        input_ids (`torch.LongTensor` of shape `(sequence_length,)`):
            Its ids without padding, a slot for each image, `[IMG]` at the end.
        pixel_values (`torch.FloatTensor` of shape `(num_images, num_channels, image_size, image_size)`, *optional*):
            Its images.
        negative_ids (`torch.LongTensor` of shape `(negative_length,)`, *optional*):
            What guidance leads away from.
    """

    input_ids: torch.Tensor
    pixel_values: torch.Tensor | None = None
    negative_ids: torch.Tensor | None = None


def make_prompts(
    processor: LaVITProcessor,
    prompt: str | list[str] | None,
    images=None,
    negative_prompt: str | list[str] | None = None,
) -> list[ImagePrompt]:
    """
    Makes prompts of texts and images.

    Args:
        processor (`LaVITProcessor`):
            Decides which image belongs to which text, and where.
        prompt (`str` or `list[str]`, *optional*):
            As the processor takes it.
        images (*optional*):
            As the processor takes them.
        negative_prompt (`str` or `list[str]`, *optional*):
            One for all prompts, or one for each.

    Returns:
        `list[ImagePrompt]`.

    Raises:
        ValueError: If the processor refuses the prompts, or negative prompts and prompts differ in number.
    """
    tokenizer = processor.tokenizer
    inputs = processor(text=prompt, images=images, generation_mode="image")
    rows = [ids[mask.bool()] for ids, mask in zip(inputs.input_ids, inputs.attention_mask, strict=True)]
    slots = find_image_slots(inputs.input_ids, tokenizer.image_start_token_id, tokenizer.image_end_token_id)
    pixel_values = [None] * len(rows)
    if "pixel_values" in inputs:
        pixel_values = [part if len(part) else None for part in inputs.pixel_values.split(slots.sum(dim=1).tolist())]
    negatives = _negative_ids(processor, negative_prompt, len(rows))
    return [ImagePrompt(*parts) for parts in zip(rows, pixel_values, negatives, strict=True)]


def collate_prompts(prompts: Sequence[ImagePrompt], pad_token_id: int) -> dict[str, torch.Tensor]:
    """The inputs of [`~LaVITForCausalLM.generate`] for a batch of prompts, padded on the left."""
    inputs = _pad([prompt.input_ids for prompt in prompts], pad_token_id, "input_ids", "attention_mask")
    pixel_values = [prompt.pixel_values for prompt in prompts if prompt.pixel_values is not None]
    if pixel_values:
        inputs["pixel_values"] = torch.cat(pixel_values)
    if prompts[0].negative_ids is not None:
        negatives = [prompt.negative_ids for prompt in prompts]
        inputs |= _pad(negatives, pad_token_id, "negative_prompt_ids", "negative_prompt_attention_mask")
    return inputs


def _negative_ids(
    processor: LaVITProcessor, negative_prompt: str | list[str] | None, num_prompts: int
) -> list[torch.Tensor | None]:
    if negative_prompt is None:
        return [None] * num_prompts
    texts = [negative_prompt] * num_prompts if isinstance(negative_prompt, str) else list(negative_prompt)
    if len(texts) != num_prompts:
        raise ValueError(
            f"there are {len(texts)} negative prompts for {num_prompts} prompts: give one, or one for each."
        )
    start = torch.tensor([processor.tokenizer.image_start_token_id])  # all there is to an empty one
    return [processor(text=text, generation_mode="image").input_ids[0] if text else start for text in texts]


def _pad(rows: list[torch.Tensor], pad_token_id: int, name: str, mask_name: str) -> dict[str, torch.Tensor]:
    return {name: pad_left(rows, pad_token_id), mask_name: pad_left([torch.ones_like(row) for row in rows], 0)}

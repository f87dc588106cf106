# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Checks of the pipeline's inputs: a single source of images, and a condition of the right shape."""

import math
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import torch


# The part of a condition that each part requires.
PARTNERS = {
    "negative_prompt_embeds": "prompt_embeds",
    "negative_prompt_attention_mask": "negative_prompt_embeds",
    "pooled_prompt_embeds": "prompt_embeds",
    "negative_pooled_prompt_embeds": "negative_prompt_embeds",
}
POOLED = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")


# Names of arguments in other pipelines.
OTHER_NAMES = {"image": "images", "text": "prompt", "num_images": "num_images_per_prompt"}


def check_known(unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raises a `TypeError` for unknown arguments, and suggests the one that was probably meant."""
    for name in unknown:
        near = [OTHER_NAMES[name]] if name in OTHER_NAMES else get_close_matches(name, known, n=1)
        hint = f": did you mean {near[0]}=?" if near else "."
        raise TypeError(f"LaVITPipeline got an unexpected keyword argument {name!r}{hint}")


def check_count(name: str, value: Any) -> None:
    """Raises a `ValueError` if an argument isn't a positive integer."""
    if not isinstance(value, Integral):
        raise ValueError(f"{name} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")


def check_number(name: str, value: Any) -> None:
    """Raises a `ValueError` if an argument isn't a finite number."""
    if not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {value!r}.")


def check_sources(prompt: Any, images: Any, image_token_ids: Any, prompt_embeds: Any, negative_prompt: Any) -> None:
    """Raises a `ValueError` unless images have exactly one source and `negative_prompt` comes with a prompt."""
    has_prompt = prompt is not None or images is not None
    if has_prompt + (image_token_ids is not None) + (prompt_embeds is not None) != 1:
        raise ValueError("pass exactly one of a prompt (with or without images), image_token_ids and prompt_embeds.")
    if negative_prompt is not None and not has_prompt:
        raise ValueError(
            "negative_prompt guides the language model, which image_token_ids and prompt_embeds do not use. Leave it "
            "out."
        )


def check_prompt_embeds(
    embeds: dict[str, torch.Tensor | None], num_patches: int, cross_attention_dim: int, pooled_dim: int | None
) -> None:
    """
    Checks a condition passed by the caller.

    Args:
        embeds (`dict[str, torch.Tensor]`):
            The parts by argument name; `None` for those left out.
        num_patches, cross_attention_dim (`int`):
            Number and width of the rows that the U-Net attends to.
        pooled_dim (`int`, *optional*):
            Width of the pooled condition, if the U-Net has one.

    Raises:
        ValueError: If a part is not a tensor, has the wrong shape, or lacks the part that it requires.
    """
    given = {name: tensor for name, tensor in embeds.items() if tensor is not None}
    _check_partners(given, pooled_dim is not None)
    for name, tensor in given.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(tensor).__name__}.")
    if "prompt_embeds" not in given:
        return
    rows, found = (num_patches, cross_attention_dim), tuple(given["prompt_embeds"].shape)
    if found[1:] != rows or found[0] < 1:
        raise ValueError(f"prompt_embeds must have shape (batch_size, {rows[0]}, {rows[1]}), got {found}.")
    shapes = dict.fromkeys(POOLED, (pooled_dim,)) | {"negative_prompt_attention_mask": (num_patches,)}
    for name, tensor in given.items():
        shape = (found[0], *shapes.get(name, rows))
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}.")


def _check_partners(given: dict[str, torch.Tensor], has_pooled_condition: bool) -> None:
    for name, partner in PARTNERS.items():
        if name in given and partner not in given:
            raise ValueError(
                f"{name} and {partner} belong together. Pass both; `encode_image_tokens` computes them from tokens."
            )
    for name in POOLED:
        if name in given and not has_pooled_condition:
            raise ValueError(f"the U-Net has no pooled condition. Leave {name} out.")
        if name not in given and has_pooled_condition and PARTNERS[name] in given:
            raise ValueError(f"the U-Net has a pooled condition. Pass {name} along with {PARTNERS[name]}.")

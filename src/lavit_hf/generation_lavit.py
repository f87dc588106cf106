# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What generation adds for two modalities: which ids may follow, and guidance."""

import torch
from transformers import LogitsProcessor

from .configuration_lavit import LaVITConfig


GENERATION_MODES = ("text", "image")

# Image generation as released: sampling with guidance (LaVIT-7B's values).
DEFAULT_IMAGE_GENERATION = {
    "do_sample": True,
    "num_beams": 1,
    "top_k": 50,
    "top_p": 1.0,
    "min_new_tokens": 20,
    "max_new_tokens": 200,
    "guidance_scale": 4.0,
}


class AllowedTokensLogitsProcessor(LogitsProcessor):
    """
    Lets only some ids be generated.

    Args:
        allowed (`torch.BoolTensor` of shape `(vocab_size,)`):
            True for the ids that may be generated.
    """

    def __init__(self, allowed: torch.Tensor):
        self.forbidden = ~allowed

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        return scores.masked_fill(self.forbidden.to(scores.device), -float("inf"))


class ImageEndLogitsProcessor(LogitsProcessor):
    """
    Ends an image that has as many codes as there are patches.

    Args:
        prompt_length (`int`):
            Length of the prompts, `[IMG]` included.
        num_patches (`int`):
            Largest number of codes.
        end_token_id (`int`):
            Id of `[/IMG]`.
    """

    def __init__(self, prompt_length: int, num_patches: int, end_token_id: int):
        self.longest = prompt_length + num_patches
        self.end_token_id = end_token_id

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if input_ids.shape[1] < self.longest:
            return scores
        ended = torch.full_like(scores, -float("inf"))
        ended[:, self.end_token_id] = 0
        return ended


def allowed_tokens(config: LaVITConfig, generation_mode: str, strict: bool, device: torch.device) -> torch.Tensor:
    """
    The ids that a mode may generate.

    Args:
        config (`LaVITConfig`):
            Names the ids.
        generation_mode (`str`):
            `"text"` allows text ids, `"image"` codes and `[/IMG]`.
        strict (`bool`):
            Where `False`, image mode also lets through what the released models let through: the text vocabulary's
            control tokens and `[IMG]`.
        device (`torch.device`):
            Where the mask is wanted.

    Returns:
        `torch.BoolTensor` of shape `(vocab_size,)`.
    """
    is_text = torch.arange(config.text_config.vocab_size, device=device) < config.text_vocab_size
    if generation_mode == "text":
        return is_text
    allowed = ~is_text
    allowed[config.image_start_token_id] = not strict
    if not strict:
        allowed[: config.num_control_tokens] = True
    return allowed


def guide(logits: torch.Tensor, scale: float) -> torch.Tensor:
    """
    Classifier-free guidance of a doubled batch.

    Args:
        logits (`torch.Tensor` of shape `(2 * batch_size, ..., vocab_size)`):
            The conditional branch's logits in the first half, the unconditional one's in the second.
        scale (`float`):
            One leaves the conditional branch as it is, more leads away from the unconditional one.

    Returns:
        `torch.Tensor` of shape `(batch_size, ..., vocab_size)`: `scale * (cond - uncond) + uncond` over
        log-probabilities, in fp32.
    """
    cond, uncond = logits.float().log_softmax(dim=-1).chunk(2)
    return scale * (cond - uncond) + uncond

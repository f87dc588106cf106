# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The condition as a map, which shows the U-Net the patch at each latent in addition to cross-attention."""

from math import isqrt

import torch
from torch import nn


def build_unet_input(unet_config, latents: torch.Tensor, prompt_embeds: torch.Tensor) -> torch.Tensor:
    """
    Builds the U-Net's input: noisy latents and, if it has additional channels, the condition as a map.

    Args:
        unet_config (`FrozenDict`):
            The U-Net's configuration.
        latents (`torch.Tensor` of shape `(batch_size, latent_channels, height, width)`):
            Noisy latents.
        prompt_embeds (`torch.Tensor` of shape `(batch_size, num_patches, cross_attention_dim)`):
            The condition of a square grid of patches, in raster order.

    Returns:
        `torch.Tensor` of shape `(batch_size, in_channels, height, width)`.
    """
    if unet_config.in_channels == unet_config.out_channels:
        return latents
    side = isqrt(prompt_embeds.shape[1])
    condition_map = prompt_embeds.transpose(1, 2).unflatten(2, (side, side))
    if condition_map.shape[2:] != latents.shape[2:]:
        condition_map = nn.functional.interpolate(condition_map, size=latents.shape[2:], mode="bilinear")
    return torch.cat([latents, condition_map.to(latents.dtype)], dim=1)


def check_channels(unet_config, latent_channels: int, num_patches: int) -> None:
    """
    Checks that the U-Net's channels fit the autoencoder's latents, with or without the condition map.

    Raises:
        ValueError: If the channels do not fit, or a map is needed but the patches do not form a square.
    """
    takes, gives, width = unet_config.in_channels, unet_config.out_channels, unet_config.cross_attention_dim
    if gives != latent_channels or takes not in (latent_channels, latent_channels + width):
        raise ValueError(
            f"the U-Net takes {takes} channels and returns {gives}, but the autoencoder's latents have "
            f"{latent_channels}. It must return that many, and take that many, or {width} more to read its condition "
            "as a map."
        )
    if takes > latent_channels and isqrt(num_patches) ** 2 != num_patches:
        raise ValueError(f"the U-Net reads its condition as a map, but {num_patches} patches do not form a square.")

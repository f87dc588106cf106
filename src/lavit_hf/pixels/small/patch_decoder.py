# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A decoder that distinguishes the pixels within a patch: each level computes four neighbors in separate channels."""

from collections.abc import Sequence

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn


class PatchDecoder(nn.Module):
    r"""
    Decodes latents into images, and doubles the size at each level (sub-pixel convolution, arXiv 1609.05158). Resizing
    would give four neighbors the same value and blur the patch. A new decoder outputs zeros.

    Args:
        latent_channels (`int`):
            Channels of the latents.
        out_channels (`int`):
            Channels of the images.
        channels (`Sequence[int]`):
            Channels of the levels, from the size of the latents to half the size of the images.
        norm_num_groups (`int`):
            Number of groups of the normalization.
    """

    def __init__(self, latent_channels: int, out_channels: int, channels: Sequence[int], norm_num_groups: int):
        super().__init__()
        self.conv_in = nn.Conv2d(latent_channels, channels[0], kernel_size=3, padding=1)
        self.levels = nn.ModuleList(
            PatchDecoderLevel(width, next_width, norm_num_groups)
            for width, next_width in zip(channels, [*channels[1:], out_channels])
        )
        _start_at_zero(self.levels[-1].conv_out)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """
        Args:
            latents (`torch.Tensor` of shape `(batch_size, latent_channels, height, width)`):
                Latents with a mean square of 1.

        Returns:
            `torch.Tensor` of shape `(batch_size, out_channels, 2 ** levels * height, 2 ** levels * width)`.
        """
        hidden_states = self.conv_in(latents)
        for level in self.levels:
            hidden_states = level(hidden_states)
        return hidden_states


class PatchDecoderLevel(nn.Module):
    """A residual block, followed by a sub-pixel convolution that doubles rows and columns."""

    def __init__(self, in_channels: int, out_channels: int, norm_num_groups: int):
        super().__init__()
        self.block = ResnetBlock2D(in_channels=in_channels, temb_channels=None, groups=norm_num_groups)
        self.norm_out = nn.GroupNorm(norm_num_groups, in_channels)
        self.conv_out = nn.Conv2d(in_channels, 4 * out_channels, kernel_size=3, padding=1)
        _start_at_zero(self.block.conv2)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = nn.functional.silu(self.norm_out(self.block(hidden_states, temb=None)))
        return nn.functional.pixel_shuffle(self.conv_out(hidden_states), 2)


def _start_at_zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)

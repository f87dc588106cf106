# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Sinusoidal positions of patches, used to initialize place embeddings."""

import math

import torch


def grid_positions(num_patches: int, width: int) -> torch.Tensor:
    """
    Sines and cosines of rows and columns, `(num_patches, width)`. Nearby places have similar embeddings, so attention
    can use them from the first step.
    """
    side, quarter = math.isqrt(num_patches), -(-width // 4)
    # From half a wave across the image, so that opposite ends differ, to one wave across four patches.
    frequencies = torch.logspace(0, 1, quarter, base=max(side / 2, 1)) * (math.pi / side)
    angles = torch.arange(side)[:, None] * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
    rows, columns = (waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1))
    return torch.cat([rows, columns], dim=-1).flatten(end_dim=1)[:, :width].contiguous()


__all__ = ["grid_positions"]

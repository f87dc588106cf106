# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Alternatives to the selector, each of which keeps the same number of patches of each image as the selector does.

Each function is a `PatchChoice`, for the training setting `patch_choice`.
"""

import torch

from initialize import LOCAL_SIZE
from lavit_hf.training.modeling_visual_tokenizer_pretraining import shuffle_patches


def random(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Random patches."""
    return shuffle_patches(masks, generator)


def evenly(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Patches spaced evenly over the image: for a given number, always the same ones."""
    scores = -_spread_order(int(masks.shape[1] ** 0.5)).to(masks.device)
    return best(scores.expand_as(masks).float(), masks.sum(dim=1))


def energy(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """The patches with the largest norm of the encoder's local channels."""
    return best(features[..., :LOCAL_SIZE].float().norm(dim=-1), masks.sum(dim=1))


def attention(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """
    The patches with the highest values in an attention map: the dot products with the image's average features, which
    replace the attention of a class token, because the encoder has none.
    """
    pooled = features.float().mean(dim=1, keepdim=True)
    return best((features.float() * pooled).sum(dim=-1), masks.sum(dim=1))


def best(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """
    Masks of the patches with the highest scores.

    Args:
        scores (`torch.Tensor` of shape `(batch_size, num_patches)`): Scores of the patches.
        counts (`torch.LongTensor` of shape `(batch_size,)`): Number of patches to keep of each image.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, num_patches)`.
    """
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1) < counts[:, None]


def _spread_order(side: int) -> torch.Tensor:
    """
    The rank of each patch in an order that covers a square grid evenly, as in ordered dithering (Bayer matrix). The
    ranks are in raster order, and the side of the grid must be a power of two.
    """
    order = torch.zeros(1, 1, dtype=torch.long)
    while len(order) < side:
        order = torch.cat([torch.cat([4 * order, 4 * order + 2], 1), torch.cat([4 * order + 3, 4 * order + 1], 1)], 0)
    return order.flatten()

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What patches are kept where the selector is taken away: as many of each image as it keeps, chosen in other ways.

Each function is a `PatchChoice`, which trainings take by the setting `patch_choice`.
"""

import torch

from initialize import LOCAL_SIZE
from lavit_hf.training.modeling_visual_tokenizer_pretraining import shuffle_patches


def random(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Any patches."""
    return shuffle_patches(masks, generator)


def evenly(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Patches spread evenly over the image, the same ones of each image with as many."""
    scores = -_spread_order(int(masks.shape[1] ** 0.5)).to(masks.device)
    return best(scores.expand_as(masks).float(), masks.sum(dim=1))


def energy(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """The patches of which the encoder's local channels say most."""
    return best(features[..., :LOCAL_SIZE].float().norm(dim=-1), masks.sum(dim=1))


def attention(masks: torch.Tensor, features: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """
    The patches that the whole image attends to most: dot products with its averaged features, which is what stands for
    a class token's attention in an encoder without one.
    """
    pooled = features.float().mean(dim=1, keepdim=True)
    return best((features.float() * pooled).sum(dim=-1), masks.sum(dim=1))


def best(scores: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """
    Masks of the patches that score best.

    Args:
        scores (`torch.Tensor` of shape `(batch_size, num_patches)`): Their scores.
        counts (`torch.LongTensor` of shape `(batch_size,)`): How many to keep of each image.

    Returns:
        `torch.BoolTensor` of shape `(batch_size, num_patches)`.
    """
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1) < counts[:, None]


def _spread_order(side: int) -> torch.Tensor:
    """
    The order in which the patches of a square grid, whose side is a power of two, cover it evenly: that of an ordered
    dither (Bayer's matrix), in raster order.
    """
    order = torch.zeros(1, 1, dtype=torch.long)
    while len(order) < side:
        order = torch.cat([torch.cat([4 * order, 4 * order + 2], 1), torch.cat([4 * order + 3, 4 * order + 1], 1)], 0)
    return order.flatten()

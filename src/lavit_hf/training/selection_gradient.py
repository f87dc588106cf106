# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What a patch is worth, told from two masks of opposite draws: the unbiased gradient of a selector.

The draws are antithetic, and the gradient is DisARM's (arXiv 2006.10680), to which each patch brings the errors of its
own neighborhood in place of the whole image's: most of the noise in these has nothing to do with that patch.
"""

import math

import torch
from torch import nn


def antithetic_masks(log_odds: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """
    Draws two keep masks for each image, each by the probabilities, of which one keeps a patch where the other drops it
    as often as these allow.

    Args:
        log_odds (`torch.Tensor` of shape `(batch_size, num_patches)`):
            Log-odds of keeping each patch.
        generator (`torch.Generator`, *optional*):
            Source of the draws; torch's global one by default.

    Returns:
        `torch.BoolTensor` of shape `(2, batch_size, num_patches)`.
    """
    probs = log_odds.detach().sigmoid()
    draws = torch.rand(probs.shape, generator=generator, dtype=probs.dtype, device=probs.device)
    return torch.stack([draws < probs, 1 - draws < probs])


def antithetic_gradient(log_odds: torch.Tensor, masks: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """
    An estimate of what each patch's log-odds do to the expected error. Its mean over the draws is the exact gradient,
    where a patch's errors hold all that its being kept has a part in.

    Args:
        log_odds (`torch.Tensor` of shape `(batch_size, num_patches)`):
            Log-odds of keeping each patch.
        masks (`torch.BoolTensor` of shape `(2, batch_size, num_patches)`):
            What [`antithetic_masks`] drew.
        errors (`torch.Tensor` of shape `(2, batch_size, num_patches)`):
            For each mask the error that each patch answers for.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_patches)`.
    """
    log_odds = log_odds.detach()
    signs = masks[0].to(log_odds.dtype) - masks[1].to(log_odds.dtype)
    return (errors[0] - errors[1]) / 2 * signs * log_odds.abs().sigmoid()


def neighborhood_errors(errors: torch.Tensor) -> torch.Tensor:
    """
    For each patch nine times the mean error of the 3 x 3 patches around it, so that a patch at the border, which has
    fewer, answers for as much as the others.

    Args:
        errors (`torch.Tensor` of shape `(..., num_patches)`):
            Errors by patch, row by row of a square grid.

    Returns:
        `torch.Tensor` of the same shape.
    """
    side = math.isqrt(errors.shape[-1])
    grid = errors.reshape(-1, 1, side, side)
    means = nn.functional.avg_pool2d(grid, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    return 9 * means.reshape(errors.shape)

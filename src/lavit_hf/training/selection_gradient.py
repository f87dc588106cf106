# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
An unbiased gradient for the selector, estimated from two antithetic masks.

The estimator is DisARM (arXiv 2006.10680), except that each patch uses the errors of its neighborhood instead of the
whole image, because most of the noise in the latter is unrelated to the patch.
"""

import math

import torch
from torch import nn


def antithetic_masks(log_odds: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """
    Samples two antithetic keep masks for each image: both follow the probabilities, and differ for as many patches as
    possible.

    Args:
        log_odds (`torch.Tensor` of shape `(batch_size, num_patches)`):
            Log-odds of keeping each patch.
        generator (`torch.Generator`, *optional*):
            Random number generator. Defaults to torch's global one.

    Returns:
        `torch.BoolTensor` of shape `(2, batch_size, num_patches)`.
    """
    probs = log_odds.detach().sigmoid()
    draws = torch.rand(probs.shape, generator=generator, dtype=probs.dtype, device=probs.device)
    return torch.stack([draws < probs, 1 - draws < probs])


def antithetic_gradient(log_odds: torch.Tensor, masks: torch.Tensor, errors: torch.Tensor) -> torch.Tensor:
    """
    Estimates the gradient of the expected error with respect to each patch's log-odds. The estimate is unbiased if a
    patch's errors include everything that keeping it affects.

    Args:
        log_odds (`torch.Tensor` of shape `(batch_size, num_patches)`):
            Log-odds of keeping each patch.
        masks (`torch.BoolTensor` of shape `(2, batch_size, num_patches)`):
            Masks from [`antithetic_masks`].
        errors (`torch.Tensor` of shape `(2, batch_size, num_patches)`):
            The error attributed to each patch, for each mask.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_patches)`.
    """
    log_odds = log_odds.detach()
    signs = masks[0].to(log_odds.dtype) - masks[1].to(log_odds.dtype)
    return (errors[0] - errors[1]) / 2 * signs * log_odds.abs().sigmoid()


def neighborhood_errors(errors: torch.Tensor) -> torch.Tensor:
    """
    Computes nine times the mean error of the 3 x 3 patches around each patch, so that patches at the border, which
    have fewer neighbors, get the same weight.

    Args:
        errors (`torch.Tensor` of shape `(..., num_patches)`):
            Errors of the patches of a square grid, in raster order.

    Returns:
        `torch.Tensor` of the same shape.
    """
    side = math.isqrt(errors.shape[-1])
    grid = errors.reshape(-1, 1, side, side)
    means = nn.functional.avg_pool2d(grid, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    return 9 * means.reshape(errors.shape)

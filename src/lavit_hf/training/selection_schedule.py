# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Warm-up of the selector, with a check that it learns, and calibration of its threshold."""

import logging
from collections.abc import Iterable

import torch
from transformers import TrainerCallback

from .errors import TrainingError
from .modeling_selection_training import LaVITTokenSelectionForPreTraining


logger = logging.getLogger(__name__)

# Difference between the kept share and the requested one that triggers a warning.
TOLERANCE = 0.05
SMALLEST_THRESHOLD = 1e-6


class SelectionWarmUp(TrainerCallback):
    """
    Trains the decoder with random masks first. Afterwards, logs one warning if an evaluation finds that the selector's
    masks are worse than random ones.

    Args:
        model ([`LaVITTokenSelectionForPreTraining`]):
            The model being trained.
        steps (`int`):
            Number of steps with random masks.
    """

    def __init__(self, model: LaVITTokenSelectionForPreTraining, steps: int):
        self.model, self.steps = model, steps
        self.has_warned = False

    def on_step_begin(self, args, state, control, **kwargs):
        self.model.warming_up = state.global_step < self.steps

    def on_log(self, args, state, control, logs=None, **kwargs):
        selected, random = (logs.get(f"eval_{name}") for name in ("reconstruction_loss", "random_loss"))
        if selected is None or self.has_warned or not state.is_world_process_zero or state.global_step <= self.steps:
            return
        if selected > random:
            logger.warning(
                "after step %d, the selector's patches reconstruct worse than the same number of random ones (%.4f "
                "against %.4f): it has not learned what matters. A longer random_mask_steps or "
                "selection_gradient='antithetic' usually helps.",
                state.global_step,
                selected,
                random,
            )
            self.has_warned = True


@torch.no_grad()
def calibrate_threshold(
    model: LaVITTokenSelectionForPreTraining, batches: Iterable[dict[str, torch.Tensor]], keep_ratio: float
) -> float:
    """
    Finds the threshold that keeps a given share of patches, averaged over the images, and sets it as the model's
    selection rule.

    Args:
        model ([`LaVITTokenSelectionForPreTraining`]):
            The trained model. Its `config.selection` is set to `"threshold"`, and `config.keep_threshold` to the
            threshold found.
        batches (`Iterable[dict[str, torch.Tensor]]`):
            Inputs of the model.
        keep_ratio (`float`):
            Share of patches to keep.

    Returns:
        `float`: The threshold.

    Raises:
        TrainingError: If there are no batches.
    """
    was_training = model.training
    model.eval()
    probs = [model(**batch).keep_probs for batch in batches]
    model.train(was_training)
    if not probs:
        raise TrainingError("there are no images to calibrate the selection threshold on.")
    threshold, share = find_threshold(torch.cat(probs), keep_ratio)
    if abs(share - keep_ratio) > TOLERANCE:
        logger.warning(
            "no threshold keeps %.2f of the patches; the nearest keeps %.2f. Too many patches have the same keep "
            "probability, for example because the images look alike or the selector has not learned.",
            keep_ratio,
            share,
        )
    model.config.selection, model.config.keep_threshold = "threshold", threshold
    return threshold


def find_threshold(probs: torch.Tensor, keep_ratio: float) -> tuple[float, float]:
    """
    Finds the threshold with the share of kept patches closest to `keep_ratio`. Every image keeps at least one patch.

    Args:
        probs (`torch.Tensor` of shape `(num_images, num_patches)`):
            Probabilities of keeping each patch.
        keep_ratio (`float`):
            Share of patches to keep.

    Returns:
        The threshold, in (0, 1), and the share that it keeps.
    """
    probs = probs.double().cpu()
    best = probs.amax(dim=1)
    values, counts = probs.unique(return_counts=True)
    likelier = counts.flip(0).cumsum(0).flip(0)  # number of probabilities at or above each value
    without = torch.searchsorted(best.sort().values, values)  # number of images with none
    nearest = int(((likelier + without) / probs.numel() - keep_ratio).abs().argmin())
    # Halfway to the next lower value in log-odds, which distinguish values near 0 and 1.
    ends = values[max(nearest - 1, 0) : nearest + 1].clamp(SMALLEST_THRESHOLD / 2, 1 - SMALLEST_THRESHOLD / 2)
    threshold = ends.logit().mean().sigmoid() if nearest else ends[0] / 2
    threshold = float(threshold.clamp(SMALLEST_THRESHOLD, 1 - SMALLEST_THRESHOLD))
    kept = (probs > threshold).sum() + (best <= threshold).sum()
    return threshold, float(kept / probs.numel())

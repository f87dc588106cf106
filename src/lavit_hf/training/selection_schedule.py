# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""When the selector begins to learn, and whether it does; and the threshold that it is used with after that."""

import logging
from collections.abc import Iterable

import torch
from transformers import TrainerCallback

from .errors import TrainingError
from .modeling_selection_training import LaVITTokenSelectionForPreTraining


logger = logging.getLogger(__name__)

# How far the kept share may be from the wanted one before a threshold counts as having missed it.
TOLERANCE = 0.05
SMALLEST_THRESHOLD = 1e-6


class SelectionWarmUp(TrainerCallback):
    """
    Lets the decoder learn from random masks first, and then watches that the selector's are better: where an
    evaluation finds them worse, it says so once.

    Args:
        model ([`LaVITTokenSelectionForPreTraining`]):
            The model that is trained.
        steps (`int`):
            The number of steps with random masks.
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
    Finds the threshold by which a share of the patches is kept, on average over the images, and makes it the selection
    rule of the model.

    Args:
        model ([`LaVITTokenSelectionForPreTraining`]):
            The trained model. Its `config.selection` becomes `"threshold"`, and `config.keep_threshold` what is found.
        batches (`Iterable[dict[str, torch.Tensor]]`):
            What the model is called with.
        keep_ratio (`float`):
            The wanted share.

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
    The threshold by which the share of kept patches is nearest to `keep_ratio`, where every image keeps at least one.

    Args:
        probs (`torch.Tensor` of shape `(num_images, num_patches)`):
            Probabilities of keeping each patch.
        keep_ratio (`float`):
            The wanted share.

    Returns:
        The threshold, which lies in (0, 1), and the share that it keeps.
    """
    probs = probs.double().cpu()
    best = probs.amax(dim=1)
    values, counts = probs.unique(return_counts=True)
    likelier = counts.flip(0).cumsum(0).flip(0)  # as likely as each value, or more
    without = torch.searchsorted(best.sort().values, values)  # images of which that would keep none
    nearest = int(((likelier + without) / probs.numel() - keep_ratio).abs().argmin())
    # Half-way to the next lower value, by log-odds, where values near 0 and 1 are told apart.
    ends = values[max(nearest - 1, 0) : nearest + 1].clamp(SMALLEST_THRESHOLD / 2, 1 - SMALLEST_THRESHOLD / 2)
    threshold = ends.logit().mean().sigmoid() if nearest else ends[0] / 2
    threshold = float(threshold.clamp(SMALLEST_THRESHOLD, 1 - SMALLEST_THRESHOLD))
    kept = (probs > threshold).sum() + (best <= threshold).sum()
    return threshold, float(kept / probs.numel())

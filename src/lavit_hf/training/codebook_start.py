# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Delayed start of the codebook, after training without codes."""

from collections.abc import Callable, Iterable

import torch
from transformers import TrainerCallback

from .modeling_visual_tokenizer_pretraining import LaVITVisualTokenizerForPreTraining


class CodebookStart(TrainerCallback):
    """
    Trains without codes at first, then initializes the codebook with k-means.

    Args:
        model ([`LaVITVisualTokenizerForPreTraining`]):
            The model being trained.
        steps (`int`):
            Number of steps without codes. The last step of a run always has codes.
        make_batches (`Callable[[], Iterable[dict[str, torch.Tensor]]]`):
            Returns the batches for k-means, as inputs of the model.
        num_rows (`int`):
            Number of rows for k-means over all processes.
    """

    def __init__(
        self,
        model: LaVITVisualTokenizerForPreTraining,
        steps: int,
        make_batches: Callable[[], Iterable[dict[str, torch.Tensor]]],
        num_rows: int,
    ):
        self.model, self.steps, self.make_batches, self.num_rows = model, steps, make_batches, num_rows

    def on_train_begin(self, args, state, control, **kwargs):
        # Before the first step too: an evaluation must not start the codebook.
        self.model.warming_up = not self.model.codebook_trainer.has_started

    def on_step_begin(self, args, state, control, **kwargs):
        self.model.warming_up = state.global_step < min(self.steps, state.max_steps - 1)
        if not self.model.warming_up and not self.model.codebook_trainer.has_started:
            # Leaves the global random state unchanged, so that a resumed run has the same.
            with torch.random.fork_rng():
                torch.manual_seed(args.seed)
                self.model.start_codebook(self.make_batches(), -(-self.num_rows // args.world_size))


__all__ = ["CodebookStart"]

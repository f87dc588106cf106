# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""When the codes begin: after the rows have come to mean something."""

from collections.abc import Callable, Iterable

import torch
from transformers import TrainerCallback

from .modeling_visual_tokenizer_pretraining import LaVITVisualTokenizerForPreTraining


class CodebookStart(TrainerCallback):
    """
    Trains without codes first, and then begins these by k-means.

    Args:
        model ([`LaVITVisualTokenizerForPreTraining`]):
            The model that is trained.
        steps (`int`):
            The number of steps without codes.
        make_batches (`Callable[[], Iterable[dict[str, torch.Tensor]]]`):
            Gives the batches whose rows the codes begin from, as the model is called with them.
        num_rows (`int`):
            How many rows that shall be, of all processes.
    """

    def __init__(
        self,
        model: LaVITVisualTokenizerForPreTraining,
        steps: int,
        make_batches: Callable[[], Iterable[dict[str, torch.Tensor]]],
        num_rows: int,
    ):
        self.model, self.steps, self.make_batches, self.num_rows = model, steps, make_batches, num_rows

    def on_step_begin(self, args, state, control, **kwargs):
        self.model.warming_up = state.global_step < self.steps
        if not self.model.warming_up and not self.model.codebook_trainer.has_started:
            # Draws of its own: a run that goes on from here has drawn as many.
            with torch.random.fork_rng():
                torch.manual_seed(args.seed)
                self.model.start_codebook(self.make_batches(), -(-self.num_rows // args.world_size))


__all__ = ["CodebookStart"]

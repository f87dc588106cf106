# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Draws of each process's own."""

from transformers import TrainerCallback, set_seed


class SeedPerProcess(TrainerCallback):
    """
    Gives every process draws of its own, where all would draw the same noise for different images. A run that goes
    on has its random states out of the checkpoint.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        set_seed(args.seed + args.process_index)

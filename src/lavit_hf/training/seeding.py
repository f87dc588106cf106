# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Different random seeds for each process."""

from transformers import TrainerCallback, set_seed


class SeedPerProcess(TrainerCallback):
    """
    Seeds every process differently, so that they don't use the same noise for different images. A resumed run loads
    its random states from the checkpoint.
    """

    def on_train_begin(self, args, state, control, **kwargs):
        set_seed(args.seed + args.process_index)

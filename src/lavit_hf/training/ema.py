# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Averaged weights: updated at every step, saved in every checkpoint, and swapped into the model on demand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .checkpoints import CallbackWithState
from .errors import TrainingError


EMA_NAME = "ema.safetensors"
STEP_KEY = "optimization_step"


class AveragedWeights(CallbackWithState):
    """
    An exponential moving average of a model's trainable weights. Its decay is small at first and grows to `decay`.

    Args:
        model (`nn.Module`):
            The model, with frozen weights already frozen.
        decay (`float`):
            Share of the average that remains at each step, such as 0.999.

    Raises:
        TrainingError: If `decay` is outside [0, 1); at the start of training with FSDP or DeepSpeed, which shard the
            weights, or with `load_best_model_at_end`, which would leave the average as it is; when resuming, if the
            checkpoint contains no average.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise TrainingError(f"the decay of the averaged weights must lie in [0, 1), got {decay}.")
        self.parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.average = EMAModel(self.parameters.values(), decay=decay, foreach=True)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context manager that temporarily replaces the model's weights by their averages."""
        self.average.store(self.parameters.values())
        self.average.copy_to(self.parameters.values())
        try:
            yield
        finally:
            self.average.restore(self.parameters.values())

    def on_train_begin(self, args, state, control, **kwargs):
        if args.fsdp or args.deepspeed:
            raise TrainingError(
                "averaging weights needs the whole weights on every process. Use DDP, or leave out ema_decay."
            )
        if args.load_best_model_at_end:
            raise TrainingError(
                "load_best_model_at_end would restore the weights, but not their average, which is what is saved. "
                "Leave it out."
            )
        if state.global_step:
            self._load(_file(args, state))
        self.average.to(next(iter(self.parameters.values())).device)

    def on_step_end(self, args, state, control, **kwargs):
        self.average.step(self.parameters.values())

    def save_state(self, checkpoint: Path) -> None:
        tensors = {name: tensor.contiguous() for name, tensor in zip(self.parameters, self.average.shadow_params)}
        save_file(tensors, checkpoint / EMA_NAME, metadata={STEP_KEY: str(self.average.optimization_step)})

    def _load(self, path: Path) -> None:
        if not path.exists():
            raise TrainingError(
                f"{path.parent} has no averaged weights ({path.name}). Remove it to resume from the previous "
                "checkpoint."
            )
        with safe_open(path, framework="pt") as file:
            self.average.optimization_step = int(file.metadata()[STEP_KEY])
        tensors = load_file(path)
        self.average.shadow_params = [tensors[name] for name in self.parameters]


def _file(args, state) -> Path:
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / EMA_NAME

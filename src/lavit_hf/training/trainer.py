# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
transformers' `Trainer` with every part of the loss logged, a stop where the loss is no number, and checkpoints that a
killed run goes on from as if it had never stopped.
"""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import has_length

from ..lavit.atomic_saving import atomic_update
from .checkpoints import CallbackWithState, last_checkpoint
from .errors import TrainingError
from .meters import LossMeter, Meter


class LaVITTrainer(Trainer):
    """
    `Trainer` for models whose output names the parts of its loss.

    Args:
        meter ([`Meter`], *optional*):
            Gathers what is logged beside the loss. By default every output whose name ends in `_loss`.
        args, kwargs:
            What `Trainer` takes.

    Raises:
        TrainingError: In training, if a step's loss is not finite, a checkpoint would hold weights that are not or
            cannot be written, or there is not one batch to train on. The checkpoints before it stay.
    """

    def __init__(self, *args, meter: Meter | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.meter = meter or LossMeter()
        self.eval_meter = copy.deepcopy(self.meter)
        # The models give their loss without being asked, and their other outputs are the meters' business.
        self.can_return_loss = True
        self.args.prediction_loss_only = True
        # A loss that is no number ends the run, rather than be left out of the log.
        self.args.logging_nan_inf_filter = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if model.training:
            self._check_loss(loss)
        (self.meter if model.training else self.eval_meter).update(inputs, outputs)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs = {**logs, **self.meter.compute(self.accelerator)}
        elif "eval_loss" in logs:
            figures = self.eval_meter.compute(self.accelerator)
            # `Trainer` has the evaluation's own rate.
            figures = {f"eval_{name}": value for name, value in figures.items() if not name.endswith("_per_second")}
            logs = {**logs, **figures}
        super().log(logs, *args, **kwargs)

    def get_train_dataloader(self) -> DataLoader:
        dataloader = super().get_train_dataloader()
        if not has_length(dataloader):
            if next(iter(self.train_dataset), None) is None:
                raise TrainingError("the training data is a stream without any rows.")
        elif len(dataloader) == 0:
            raise TrainingError(
                f"the training data has {len(self.train_dataset)} rows, fewer than one batch of "
                f"{self.args.train_batch_size} for each of {self.args.world_size} processes. Lower "
                "per_device_train_batch_size, or set dataloader_drop_last to false."
            )
        return dataloader

    def _save_checkpoint(self, *args, **kwargs) -> None:
        self._check_weights()
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch's own writer raises a RuntimeError
            raise TrainingError(
                f"the checkpoint of step {self.state.global_step} cannot be written: {error}. {self._last_good()}. "
                "Free some space and start the run again; it resumes from there."
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            super()._save(output_dir, state_dict)
            return
        with atomic_update(output_dir or self.args.output_dir) as folder:
            super()._save(str(folder), state_dict)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.args.should_save:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, CallbackWithState):
                    callback.save_state(Path(output_dir))
        # What is written next, by one process, says that everything is there, from all processes.
        self.accelerator.wait_for_everyone()

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ) -> tuple[int, int]:
        epochs_and_steps = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is None or self.state.global_step < max_steps:
            return epochs_and_steps
        # `Trainer` would look whether it is at its end behind a step only.
        self._load_rng_state(resume_from_checkpoint)
        return num_train_epochs, 0

    def _check_loss(self, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss.detach()).all():
            self._stop(f"the loss became {loss.item()} at step {self.state.global_step + 1}")

    def _check_weights(self) -> None:
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and not torch.isfinite(parameter.detach()).all():
                self._stop(f"the weights of {name} are no longer finite after step {self.state.global_step}")

    def _stop(self, reason: str) -> None:
        raise TrainingError(f"{reason}. {self._last_good()}. A lower learning_rate or max_grad_norm usually helps.")

    def _last_good(self) -> str:
        checkpoint = last_checkpoint(self.args.output_dir)
        return f"The last good checkpoint is {checkpoint}" if checkpoint else "There is no checkpoint yet"

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
transformers' `Trainer` with all parts of the loss in the log, an error if the loss is not finite, and checkpoints from
which a killed run resumes exactly.
"""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, has_length

from ..lavit.atomic_saving import atomic_update
from .checkpoints import CallbackWithState, last_checkpoint
from .errors import TrainingError
from .meters import LossMeter, Meter


class LaVITTrainer(Trainer):
    """
    `Trainer` for models whose outputs contain the parts of their loss.

    Args:
        meter ([`Meter`], *optional*):
            Computes additional metrics to log. Defaults to every output whose name ends in `_loss`.
        args, kwargs:
            Arguments of `Trainer`.

    Raises:
        TrainingError: If gradients are to be accumulated for a model with `needs_whole_batches`, or labels are to be
            smoothed. In training, if a step's loss or the weights of a checkpoint are not finite, a checkpoint cannot
            be written, or there is not a single training batch. Earlier checkpoints are kept.
    """

    def __init__(self, *args, meter: Meter | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._check_arguments()
        self.meter = meter or LossMeter()
        self.eval_meter = copy.deepcopy(self.meter)
        # The models always return their loss. Only the meters use their other outputs.
        self.can_return_loss = True
        self.args.prediction_loss_only = True
        # A non-finite loss ends the run instead of being left out of the log.
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
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs) -> EvalLoopOutput:
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        for name, value in self.eval_meter.compute(self.accelerator).items():
            if not name.endswith("_per_second"):  # `Trainer` already measures the rate of the evaluation
                output.metrics[f"{metric_key_prefix}_{name}"] = value
        return output

    def _get_num_items_in_batch(self, *args, **kwargs) -> torch.Tensor | int | None:
        # Without any target, such as after a question that is longer than the limit, the loss is 0 instead of 0 / 0.
        number = super()._get_num_items_in_batch(*args, **kwargs)
        return number.clamp(min=1) if torch.is_tensor(number) else number

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
        except (OSError, RuntimeError, SafetensorError) as error:  # torch.save raises a RuntimeError
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
        # One process writes the next file, which marks the checkpoint as complete for all processes.
        self.accelerator.wait_for_everyone()

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ) -> tuple[int, int]:
        epochs_and_steps = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is None or self.state.global_step < max_steps:
            return epochs_and_steps
        # `Trainer` would only check for the end after another step.
        self._load_rng_state(resume_from_checkpoint)
        return num_train_epochs, 0

    def _check_arguments(self) -> None:
        if self.args.label_smoothing_factor:
            raise TrainingError(
                f"label_smoothing_factor must be 0, got {self.args.label_smoothing_factor}: the models calculate "
                "their own losses."
            )
        if self.args.gradient_accumulation_steps > 1 and getattr(self.model, "needs_whole_batches", False):
            raise TrainingError(
                f"gradient_accumulation_steps must be 1, got {self.args.gradient_accumulation_steps}: what this stage "
                "learns depends on the whole batch. Use more processes, or lower per_device_train_batch_size."
            )

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

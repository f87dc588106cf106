# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: which are complete, and the state that callbacks save in them."""

import json
from abc import ABC, abstractmethod
from pathlib import Path

from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


class CallbackWithState(TrainerCallback, ABC):
    """A callback that saves state in every checkpoint that [`LaVITTrainer`] writes."""

    @abstractmethod
    def save_state(self, checkpoint: Path) -> None:
        """
        Saves the callback's state. Called on the saving process, before the checkpoint counts as complete.

        Args:
            checkpoint (`Path`):
                The checkpoint's folder.
        """


def last_checkpoint(output: str | Path) -> str | None:
    """
    Finds the last complete checkpoint. A killed run or a full disk leaves incomplete ones behind.

    Args:
        output (`str` or `Path`):
            A run's `output_dir`.

    Returns:
        `str` or `None`: The checkpoint's folder, or `None` if there is none.
    """
    finished = [folder for folder in Path(output).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _is_finished(folder)]
    return str(max(finished, key=_step)) if finished else None


def _is_finished(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text())  # written last
    except (OSError, ValueError):
        return False
    return True


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))


__all__ = ["CallbackWithState", "last_checkpoint"]

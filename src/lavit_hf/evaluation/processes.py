# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Processes that share the work, as started by `accelerate launch`."""

from datetime import timedelta

from accelerate import PartialState


# How long finished processes wait for the others.
PATIENCE = timedelta(days=7)


class Processes:
    """
    The processes of a run, including the current one.

    Args:
        device (`str`):
            The requested device.
    """

    def __init__(self, device: str):
        self._state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
        alone = self._state.num_processes == 1
        self.device = device if alone or device not in ("auto", "cuda") else str(self._state.device)

    @property
    def rank(self) -> int:
        """Index of this process."""
        return self._state.process_index

    @property
    def count(self) -> int:
        """Number of processes."""
        return self._state.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this is the process that scores answers and writes the result."""
        return self._state.is_main_process

    def wait(self) -> None:
        """Waits for all processes."""
        self._state.wait_for_everyone()

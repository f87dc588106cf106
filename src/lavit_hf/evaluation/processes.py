# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Several processes that share the work, as `accelerate launch` starts them."""

from datetime import timedelta

from accelerate import PartialState


# How long processes that are done wait for the others.
PATIENCE = timedelta(days=7)


class Processes:
    """
    The processes of a run, of which this is one.

    Args:
        device (`str`):
            The device that was asked for.
    """

    def __init__(self, device: str):
        self._state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
        alone = self._state.num_processes == 1
        self.device = device if alone or device not in ("auto", "cuda") else str(self._state.device)

    @property
    def rank(self) -> int:
        """The number of this process."""
        return self._state.process_index

    @property
    def count(self) -> int:
        """How many there are."""
        return self._state.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this is the one that scores and writes the result."""
        return self._state.is_main_process

    def wait(self) -> None:
        """Waits until all are here."""
        self._state.wait_for_everyone()

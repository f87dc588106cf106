# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Process-wide switches, such as those of libraries' progress bars, that are off while any thread needs them off."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SharedSwitch:
    """
    A process-wide switch that several threads may turn off at once. The first turns it off, and the last restores it.

    Args:
        is_on (`Callable`):
            Returns the state of the switch.
        turn_off, turn_on (`Callable`):
            Change its state.
    """

    def __init__(self, is_on: Callable[[], bool], turn_off: Callable[[], None], turn_on: Callable[[], None]):
        self._is_on, self._turn_off, self._turn_on = is_on, turn_off, turn_on
        self._lock = threading.Lock()
        self._num_users = 0
        self._was_on = False

    @contextmanager
    def off(self) -> Iterator[None]:
        """Context manager in which the switch is off."""
        with self._lock:
            if not self._num_users:
                self._was_on = self._is_on()
                if self._was_on:
                    self._turn_off()
            self._num_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_users -= 1
                if not self._num_users and self._was_on:
                    self._turn_on()

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A switch of the process that several threads want off at once."""

import threading

import pytest

from lavit_hf.tasks.shared_switch import SharedSwitch
from threads import run_in_threads


@pytest.mark.parametrize("was_on", [True, False])
def test_off_for_all_and_put_back_by_the_last(was_on):
    state = [was_on]
    switch = SharedSwitch(lambda: state[0], lambda: state.__setitem__(0, False), lambda: state.__setitem__(0, True))
    inside, first_left = threading.Barrier(2), threading.Event()

    def use(is_first: bool) -> bool:
        with switch.off():
            inside.wait(60)
            if not is_first:
                assert first_left.wait(60)
            seen = state[0]
        if is_first:
            first_left.set()
        return seen

    assert run_in_threads(use, [True, False]) == [False, False]
    assert state == [was_on]

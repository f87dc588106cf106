# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Calls made in threads at the same time."""

import threading
from collections.abc import Callable, Iterable
from typing import Any


def run_in_threads(call: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
    """What a call gives for each argument, when all are made at once. The first error of a thread is raised here."""
    arguments = list(arguments)
    results, errors, gate = [None] * len(arguments), [], threading.Barrier(len(arguments))

    def run(number: int) -> None:
        try:
            gate.wait(60)
            results[number] = call(arguments[number])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(arguments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results

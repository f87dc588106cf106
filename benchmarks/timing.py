# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Code shared by the benchmarks: medians of interleaved runs, and tables."""

import platform
import statistics
import time
from collections.abc import Callable

import torch


def alternating_seconds(
    functions: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """
    Times functions in turn (A B A B ...), so that changes in the machine's speed affect all of them alike.

    Args:
        functions (`dict[str, Callable]`):
            The functions to time, by name. Each runs once before it is timed.
        repeats (`int`):
            Number of timed runs of each function.
        clock (`Callable`, *optional*, defaults to `time.perf_counter`):
            Returns the current time in seconds.

    Returns:
        `dict[str, list[float]]`: The times of each function, in seconds.
    """
    for function in functions.values():
        function()
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return seconds


def median_seconds(*args, **kwargs) -> dict[str, float]:
    """The median time of each function, see [`alternating_seconds`]."""
    return {name: statistics.median(runs) for name, runs in alternating_seconds(*args, **kwargs).items()}


def print_machine() -> None:
    """Prints a line with the torch version, the architecture and the number of threads."""
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads\n")


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Prints a Markdown table."""
    print(f"{format_table(head, rows)}\n")


def format_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Formats a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))

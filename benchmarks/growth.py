# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
How the time of what goes over many inputs grows with their number: seconds, and the exponent that fits them. 1 is
linear, 2 would be quadratic.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from timing import median_seconds, print_machine, print_table

from lavit_hf.tasks.saving import name_outputs
from lavit_hf.training.packing import first_fit


SIZES = (1000, 2000, 4000, 8000, 16000)
ROW_LENGTH = 2048  # tokens


def name_pictures(count: int) -> Callable[[], object]:
    """Names for the outputs of pictures that are all called alike."""
    return partial(name_outputs, [f"{number}/cat.png" for number in range(count)], Path("pictures"))


def pack_samples(count: int) -> Callable[[], object]:
    """Packing of samples of any length up to half a row."""
    draw = random.Random(0)
    return partial(first_fit, [draw.randint(1, ROW_LENGTH // 2) for _ in range(count)], ROW_LENGTH)


TASKS = {"name_outputs, equal stems": name_pictures, "first_fit": pack_samples}


def fit_exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The `k` of `seconds = c * sizes ** k`: the slope of the line through both logarithms."""
    return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, seconds)]).slope


def main(repeats: Annotated[int, typer.Option(help="Timed runs of each; the median is shown.", min=1)] = 7) -> None:
    """Time each task at all sizes."""
    print_machine()
    rows = []
    for name, make_task in TASKS.items():
        seconds = median_seconds({str(size): make_task(size) for size in SIZES}, repeats)
        exponent = fit_exponent(SIZES, list(seconds.values()))
        rows.append((name, *(f"{value:.4f}" for value in seconds.values()), f"{exponent:.2f}"))
    print_table(("seconds for", *(f"{size:,}" for size in SIZES), "exponent"), rows)


if __name__ == "__main__":
    typer.run(main)

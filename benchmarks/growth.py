# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures how time and memory grow with the number of inputs, and fits exponents: 1 is linear, 2 is quadratic. Lists
everything that grows faster than linearly. Times are CPU times, which vary less on a busy machine than wall-clock
times.
"""

import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from memory import PeakMemory
from PIL import Image
from timing import median_seconds, print_machine, print_table

from lavit_hf import LaVITPipeline, bundled_checkpoint
from lavit_hf.tasks.reading import CAPTION, generate_texts
from lavit_hf.tasks.saving import name_outputs
from lavit_hf.training.packing import first_fit


SIZES = (1000, 2000, 4000, 8000, 16000)
DOOR_SIZES = (1, 10, 100, 1000)
ROW_LENGTH = 2048  # tokens
BATCH_SIZE = 8  # for captions, as on the command line
NUM_IDS = 8
STEPS = 2
PICTURE = Path(__file__).parents[1] / "examples" / "images" / "cat.jpg"
STEEP = 1.05  # larger exponents exceed 1 by more than noise
LEAST_MEMORY = 2**20  # bytes; smaller values can't be distinguished from noise


def name_pictures(count: int) -> Callable[[], object]:
    """Names the outputs of images that all have the same file name."""
    return partial(name_outputs, [f"{number}/cat.png" for number in range(count)], Path("pictures"))


def pack_samples(count: int) -> Callable[[], object]:
    """Packs samples of random lengths up to half a sequence."""
    draw = random.Random(0)
    return partial(first_fit, [draw.randint(1, ROW_LENGTH // 2) for _ in range(count)], ROW_LENGTH)


TASKS = {"name_outputs, equal stems": name_pictures, "first_fit": pack_samples}


class Doors:
    """
    The interfaces of the bundled checkpoint, each called with a number of images or prompts.

    Args:
        path (`str`):
            The repo.
    """

    def __init__(self, path: str):
        self.pipeline = LaVITPipeline.from_pretrained(path)
        self.pipeline.set_progress_bar_config(disable=True)
        self.model, self.processor = self.pipeline.language_model, self.pipeline.processor
        self.image = Image.open(PICTURE).convert("RGB").resize((256, 256))

    def all(self) -> dict[str, Callable[[int], object]]:
        """All interfaces by name."""
        return {
            "image processor": self.process,
            "visual tokenizer": self.tokenize,
            "captions": self.caption,
            "image ids": self.write_ids,
            "pictures": self.paint,
        }

    def process(self, count: int) -> torch.Tensor:
        return self.processor.image_processor([self.image] * count, return_tensors="pt").pixel_values

    @torch.no_grad()
    def tokenize(self, count: int) -> list[torch.Tensor]:
        return self.model.visual_tokenizer(self.process(count).to(self.model.dtype)).codes

    def caption(self, count: int) -> list[str]:
        generator, texts = torch.Generator().manual_seed(0), []
        for start in range(0, count, BATCH_SIZE):
            number = min(BATCH_SIZE, count - start)
            samples = [CAPTION.prepare(self.processor, self.image) for _ in range(number)]
            texts += generate_texts(CAPTION, samples, self.processor, self.model, generator)
        return texts

    def write_ids(self, count: int) -> list[torch.Tensor]:
        lengths = {"min_new_tokens": NUM_IDS, "max_new_tokens": NUM_IDS}
        return self.pipeline.generate_image_tokens(["red apple"] * count, generation_kwargs=lengths)

    def paint(self, count: int) -> torch.Tensor:
        first_code = self.model.config.first_code_token_id
        ids = [torch.arange(first_code, first_code + NUM_IDS)] * count
        return self.pipeline(image_token_ids=ids, num_inference_steps=STEPS, output_type="pt").images


def fit_exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The `k` in `value = c * size ** k`: the slope of a linear fit to the logarithms."""
    return statistics.linear_regression([*map(math.log, sizes)], [*map(math.log, values)]).slope


def measure_door(door: Callable[[int], object], sizes: Sequence[int]) -> tuple[list[float], list[float]]:
    """CPU time in seconds and additional memory in bytes, for each size."""
    door(sizes[0])  # warm-up
    seconds, memory = [], []
    for size in sizes:
        with PeakMemory() as peak:
            start = time.process_time()
            door(size)
            seconds.append(time.process_time() - start)
        memory.append(max(peak.bytes, LEAST_MEMORY))
    return seconds, memory


def fit_growth(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """The larger of the exponents for all sizes and for the last two: fixed costs can hide growth at small sizes."""
    return max(fit_exponent(sizes, seconds), fit_exponent(sizes[-2:], seconds[-2:]))


def find_steep(exponents: dict[str, float]) -> list[str]:
    """Names and exponents of everything that grows faster than linearly."""
    return [f"{name} ({exponent:.2f})" for name, exponent in exponents.items() if exponent > STEEP]


def print_tasks(repeats: int) -> dict[str, float]:
    """Prints the table for tasks without a model, and returns the exponents."""
    rows, exponents = [], {}
    for name, make_task in TASKS.items():
        seconds = median_seconds({str(size): make_task(size) for size in SIZES}, repeats, time.process_time)
        exponents[f"time of {name}"] = exponent = fit_exponent(SIZES, list(seconds.values()))
        rows.append((name, *(f"{value:.4f}" for value in seconds.values()), f"{exponent:.2f}"))
    print_table(("seconds for", *(f"{size:,}" for size in SIZES), "exponent"), rows)
    return exponents


def print_doors(sizes: Sequence[int]) -> dict[str, float]:
    """Prints the table for interfaces that run a model, and returns the exponents."""
    rows, exponents = [], {}
    for name, door in Doors(bundled_checkpoint()).all().items():
        print(f"{name} ...", flush=True)
        for unit, values in zip(("time", "memory"), measure_door(door, sizes), strict=True):
            fit = fit_growth if unit == "time" else fit_exponent
            exponents[f"{unit} of {name}"] = exponent = fit(sizes, values)
            shown = values if unit == "time" else [value / 1e6 for value in values]
            rows.append(
                (name, "s" if unit == "time" else "MB", *(f"{value:.2f}" for value in shown), f"{exponent:.2f}")
            )
    print_table(("interface", "unit", *(f"{size:,}" for size in sizes), "exponent"), rows)
    return exponents


def main(
    repeats: Annotated[
        int, typer.Option(help="Number of timed runs of tasks without a model; the median is shown.", min=1)
    ] = 7,
    largest: Annotated[int, typer.Option(help="Maximum number of images or prompts.", min=10)] = DOOR_SIZES[-1],
) -> None:
    """Measure all tasks and interfaces at all sizes, and list those that grow faster than linearly."""
    print_machine()
    exponents = print_tasks(repeats) | print_doors([size for size in DOOR_SIZES if size <= largest])
    print(f"Exponents above {STEEP}: {', '.join(find_steep(exponents)) or 'none'}.")


if __name__ == "__main__":
    typer.run(main)

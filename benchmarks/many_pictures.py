# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Compares the speed of `lavit caption` on a folder with a thousand images to that of the model alone, which reads the
same images, decoded and prepared beforehand, with the fastest batch size.

The command also has to start up, and prepares the images while the model runs. Both use the same cores, which limits
the share of the model's rate that the command can reach after startup.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from timing import alternating_seconds, median_seconds, print_machine, print_table

from lavit_hf import LaVITProcessor, bundled_checkpoint
from lavit_hf.tasks.images import read_image
from lavit_hf.tasks.loading import load_language_model
from lavit_hf.tasks.options import DType, ModelOptions
from lavit_hf.tasks.reading import CAPTION, generate_texts


SOURCES = sorted((Path(__file__).parents[1] / "examples" / "images").rglob("*.[jp][pn]g"))
BATCH_SIZES = (8, 16, 32, 64)
TRIAL = 128  # number of images for finding the fastest batch size
AIM = 0.9


class Reader:
    """The model alone, with images prepared in advance."""

    def __init__(self, dtype: DType):
        path = bundled_checkpoint()
        self.model = load_language_model(path, ModelOptions(dtype=dtype))
        self.processor = LaVITProcessor.from_pretrained(path)
        self.samples = self.prepare(len(SOURCES))

    def prepare(self, num_images: int) -> list:
        """Decodes and prepares a number of images, as the command does."""
        prepare = CAPTION.preparer(self.processor)
        return [prepare(read_image(str(SOURCES[number % len(SOURCES)]))) for number in range(num_images)]

    def read(self, num_images: int, batch_size: int) -> None:
        """Captions a number of images."""
        samples = [self.samples[number % len(self.samples)] for number in range(num_images)]
        for start in range(0, num_images, batch_size):
            batch = samples[start : start + batch_size]
            generate_texts(CAPTION, batch, self.processor, self.model, torch.Generator().manual_seed(0))

    def fastest_batch_size(self) -> int:
        """The fastest batch size."""
        trials = {size: lambda size=size: self.read(TRIAL, size) for size in BATCH_SIZES}
        seconds = median_seconds(trials, repeats=3)
        return min(seconds, key=seconds.get)


def copy_images(folder: Path, num_images: int) -> None:
    """Fills a folder with a number of images."""
    for number in range(num_images):
        source = SOURCES[number % len(SOURCES)]
        shutil.copyfile(source, folder / f"{number:06d}{source.suffix}")


def run_command(path: Path, dtype: DType) -> None:
    """Runs the command."""
    command = [sys.executable, "-m", "lavit_hf.cli", "caption", str(path), "--json", "--dtype", dtype.value]
    subprocess.run(command, check=True, capture_output=True)


def main(
    num_images: Annotated[int, typer.Option(help="Number of images in the folder.", min=1)] = 1000,
    repeats: Annotated[int, typer.Option(help="Number of timed runs.", min=1)] = 3,
    dtype: Annotated[DType, typer.Option(help="Dtype of the command and the model alone.")] = DType.auto,
) -> None:
    """Time the command and the model alone in turn."""
    print_machine()
    reader = Reader(dtype)
    batch_size = reader.fastest_batch_size()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_images(folder, num_images)
        command, start, model = alternating_seconds(
            {
                "command": lambda: run_command(folder, dtype),
                "start": lambda: run_command(SOURCES[0], dtype),
                "model": lambda: reader.read(num_images, batch_size),
            },
            repeats,
        ).values()
    clock = {"preparing": lambda: reader.prepare(num_images)}
    preparing = median_seconds(clock, repeats=repeats, clock=time.process_time)["preparing"]
    rows = [
        ("`lavit caption FOLDER`", f"{statistics.median(command):.1f}"),
        ("`lavit caption` of one image", f"{statistics.median(start):.1f}"),
        (f"the model alone, batches of {batch_size}", f"{statistics.median(model):.1f}"),
        ("preparing the images, CPU time", f"{preparing:.1f}"),
    ]
    print_table((f"{num_images} images", "seconds"), rows)
    shares = [own / (whole - one) for own, whole, one in zip(model, command, start, strict=True)]
    cores = torch.get_num_threads()
    alone = statistics.median(model)
    print(
        f"After startup, the command reaches {statistics.median(shares):.0%} of the model's rate ({min(shares):.0%} "
        f"to {max(shares):.0%}; target: {AIM:.0%}). With preparation on the same {cores} cores, the limit is "
        f"{alone / (alone + preparing / cores):.0%}."
    )


if __name__ == "__main__":
    typer.run(main)

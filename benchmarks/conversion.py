# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Converts a checkpoint with random weights in the original full-size layout, and reports time and memory.

The reported memory is private memory; memory-mapped files, which the operating system can evict, don't count.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from memory import PeakMemory
from random_original import write_original
from timing import print_machine, print_table

from lavit_hf.conversion import convert_checkpoint


def main(
    layers: Annotated[int, typer.Option(help="Number of LLaMA blocks of 0.4 GB; 32 at full size.")] = 4,
    folder: Annotated[Path | None, typer.Option(help="Folder to write to; a temporary folder by default.")] = None,
) -> None:
    """Write a random original checkpoint, convert it and report the peak memory."""
    print_machine()
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        original = Path(temporary) / "original"
        num_bytes = write_original(original, layers)
        with PeakMemory() as memory:
            start = time.perf_counter()
            convert_checkpoint(original, Path(temporary) / "converted")
            seconds = time.perf_counter() - start
    row = (str(layers), f"{num_bytes / 1e9:.1f}", f"{seconds:.0f}", f"{memory.bytes / 1e9:.2f}")
    print_table(("LLaMA blocks", "checkpoint, GB", "seconds", "peak memory, GB"), [row])


if __name__ == "__main__":
    typer.run(main)

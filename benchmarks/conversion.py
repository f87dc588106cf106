# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Converts a checkpoint with random weights in the original's full-size layout, and reports time and memory.

The memory is what the process holds for itself; files mapped into memory are the system's to keep or drop.
"""

import json
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from timing import print_machine, print_table
from transformers import LlamaConfig

from lavit_hf.conversion import convert_checkpoint


GOLDEN = Path(__file__).parents[1] / "modeling_tests" / "golden"
FILES = (
    "visual_tokenizer/eva_vitg_psz14.bin",
    "visual_tokenizer/tokenizer_encoder.bin",
    "language_model/visual_weight.bin",
    "language_model/pytorch_model.bin",
)


def write_original(folder: Path, layers: int) -> int:
    """Writes fp16 noise in the layout of LaVIT-7B, with `layers` LLaMA blocks; returns the number of bytes."""
    layout = json.loads((GOLDEN / "layout_7b.json").read_text())
    for file in FILES:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shapes = {name: shape for name, shape in layout[file].items() if _llama_layer(name) < layers}
        torch.save({name: torch.randn(shape).half() for name, shape in shapes.items()}, folder / file)
    LlamaConfig(
        vocab_size=layout[FILES[-1]]["lm_head.weight"][0], num_hidden_layers=layers, pad_token_id=0
    ).save_pretrained(folder / "language_model")
    shutil.copy(GOLDEN / "original" / "language_model" / "tokenizer.model", folder / "language_model")
    return sum(path.stat().st_size for path in folder.rglob("*.bin"))


def _llama_layer(name: str) -> int:
    match = re.match(r"model\.layers\.(\d+)\.", name)
    return int(match[1]) if match else -1


class PeakMemory:
    """Largest number of bytes that the process held for itself while the block ran, above what it held before."""

    def __enter__(self) -> "PeakMemory":
        self.before = self.peak = _anonymous_bytes()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.done.set()
        self.thread.join()
        self.bytes = self.peak - self.before

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, _anonymous_bytes())


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def main(
    layers: Annotated[int, typer.Option(help="LLaMA blocks, of 0.4 GB each; 32 are the full size.")] = 4,
    folder: Annotated[Path | None, typer.Option(help="Where to write; a temporary folder by default.")] = None,
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

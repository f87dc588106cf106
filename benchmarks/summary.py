# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Compares the main operations of this package with reference implementations, which run in turn, in a single table: the
minimum, median and maximum ratio, and the share of the machine's limit that is reached.

A ratio above 1 means that this package takes less time. The limits are for this machine; its memory bandwidth is
measured beforehand, with a large copy.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from generation import GUIDANCE, write_in_two_passes
from roofline import Card, count_bytes, measure_card
from timing import alternating_seconds, print_machine, print_table
from transformers import AutoModelForCausalLM, DynamicCache

from lavit_hf import LaVITForCausalLM, LaVITPipeline, bundled_checkpoint
from lavit_hf.conversion.writing import write_shards


PICTURE = Path(__file__).parents[1] / "examples" / "images" / "cat.jpg"
NUM_PICTURES, NUM_IDS, NUM_TOKENS = 64, 16, 32
STEPS = 25
SHARD_VALUES, SHARD_PARTS = 2**25, 8  # in fp32, 1 GB in all


@dataclass(frozen=True)
class Work:
    """
    An operation to time.

    Args:
        name (`str`):
            Name of the operation.
        ours (`Callable`):
            This package's implementation.
        peer (`Callable`):
            The reference implementation.
        peer_name (`str`):
            Name of the reference.
        bound (`float`, *optional*):
            The minimum time on this machine, in seconds; `None` if the reference is the limit, or there is none.
        formula (`str`, *optional*):
            How the minimum time is computed.
    """

    name: str
    ours: Callable[[], object]
    peer: Callable[[], object]
    peer_name: str
    bound: float | None = None
    formula: str = ""

    def row(self, repeats: int) -> tuple[str, ...]:
        """Its row of the table."""
        ours, peer = alternating_seconds({"ours": self.ours, "peer": self.peer}, repeats).values()
        ratios = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
        seconds = statistics.median(ours)
        return (
            self.name,
            show_seconds(seconds),
            f"{show_seconds(statistics.median(peer))} ({self.peer_name})",
            f"{min(ratios):.2f} / {statistics.median(ratios):.2f} / {max(ratios):.2f}",
            "" if self.bound is None else f"{self.bound / seconds:.0%}",
            self.formula,
        )


def show_seconds(seconds: float) -> str:
    """Formats seconds with three digits and a suitable unit."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


@contextmanager
def command_line() -> Iterator[Work]:
    """A caption, including the start of the process."""
    run = partial(subprocess.run, check=True, capture_output=True)
    yield Work(
        "`lavit caption`, one image",
        lambda: run([sys.executable, "-m", "lavit_hf.cli", "caption", str(PICTURE)]),
        lambda: run([sys.executable, "-c", "from transformers import LlamaForCausalLM"]),
        "`from transformers import LlamaForCausalLM`",
    )


@contextmanager
def conversion() -> Iterator[Work]:
    """Writing shards of memory-mapped tensors."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "original.bin"
        torch.save({f"layer.{number}": torch.randn(SHARD_VALUES) for number in range(SHARD_PARTS)}, source)
        tensors = torch.load(source, mmap=True, weights_only=True)
        plan = {name: partial(tensors.__getitem__, name) for name in tensors}
        specs = {name: tensor.to("meta") for name, tensor in tensors.items()}
        yield Work(
            "conversion, 1 GB",
            lambda: write_shards(plan, specs, Path(folder) / "converted", "2GB", None),
            lambda: shutil.copyfile(source, Path(folder) / "copy"),
            "copy of the file",
        )


@contextmanager
def seeing() -> Iterator[Work]:
    """The bundled checkpoint's convolutional encoder."""
    tokenizer = LaVITForCausalLM.from_pretrained(bundled_checkpoint()).visual_tokenizer
    size = tokenizer.config.image_size
    pixel_values = torch.randn(NUM_PICTURES, 3, size, size, dtype=tokenizer.dtype)
    yield Work(
        f"convolutional encoder, {NUM_PICTURES} images",
        torch.inference_mode()(lambda: tokenizer.encode(pixel_values)),
        torch.inference_mode()(lambda: tokenizer.encoder.model(pixel_values)),
        "timm, all at once",
    )


@contextmanager
def decoding(card: Card, dtype: torch.dtype) -> Iterator[Work]:
    """Text tokens, generated one by one."""
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype=dtype)
    peer = AutoModelForCausalLM.from_config(model.config.text_config).eval().to(dtype)
    ids = torch.randint(3, model.config.text_vocab_size, (1, 1))

    @torch.inference_mode()
    def decode(causal_model) -> None:
        cache = DynamicCache()
        for _ in range(NUM_TOKENS):
            causal_model(input_ids=ids, cache=cache, use_cache=True)

    bound = NUM_TOKENS * count_bytes((model.language_model, model.lm_head))["16 bits"] * dtype.itemsize / 2
    yield Work(
        f"{NUM_TOKENS} text tokens, {str(dtype).removeprefix('torch.')}",
        lambda: decode(model),
        lambda: decode(peer),
        type(peer).__name__,
        bound / card.bandwidth,
        "weights / memory bandwidth, per token",
    )


@contextmanager
def writing_images(card: Card, dtype: torch.dtype) -> Iterator[Work]:
    """Image ids, generated with guidance."""
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype=dtype)
    input_ids = torch.randint(3, model.config.text_vocab_size, (1, 8))
    input_ids[:, -1] = model.config.image_start_token_id
    lengths = {"max_new_tokens": NUM_IDS, "min_new_tokens": NUM_IDS}
    settings = {"generation_mode": "image", "guidance_scale": GUIDANCE, "do_sample": False, **lengths}
    bound = NUM_IDS * count_bytes((model.language_model, model.lm_head))["16 bits"] * dtype.itemsize / 2
    yield Work(
        f"{NUM_IDS} image ids, guided, {str(dtype).removeprefix('torch.')}",
        torch.inference_mode()(lambda: model.generate(input_ids, **settings)),
        torch.inference_mode()(lambda: write_in_two_passes(model, input_ids, NUM_IDS)),
        "two passes",
        bound / card.bandwidth,
        "weights / memory bandwidth, per token",
    )


@contextmanager
def painting() -> Iterator[Work]:
    """Denoising with guidance, compared with the U-Net calls alone."""
    pipeline = LaVITPipeline.from_pretrained(bundled_checkpoint())
    pipeline.set_progress_bar_config(disable=True)
    first_code = pipeline.language_model.config.first_code_token_id
    ids = [torch.arange(first_code, first_code + NUM_IDS)]
    calls = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, *call: calls.append(call), with_kwargs=True)
    paint = partial(pipeline, image_token_ids=ids, num_inference_steps=STEPS, output_type="latent")
    paint()
    hook.remove()
    yield Work(
        f"{STEPS} denoising steps",
        paint,
        torch.inference_mode()(lambda: [pipeline.unet(*args, **kwargs) for args, kwargs in calls]),
        "U-Net calls only",
    )


def all_works(card: Card) -> list:
    """All operations; each is set up only when it is its turn."""
    return [
        command_line(),
        conversion(),
        seeing(),
        *(make(card, dtype) for make in (decoding, writing_images) for dtype in (torch.float32, torch.bfloat16)),
        painting(),
    ]


def main(repeats: Annotated[int, typer.Option(help="Number of timed runs.", min=5)] = 7) -> None:
    """Print the table."""
    print_machine()
    card = measure_card("cpu")
    print(f"memory {card.bandwidth / 1e9:.0f} GB/s, matmuls {card.matmul_rate / 1e9:.0f} GFLOP/s in bf16\n")
    rows = []
    for setting_up in all_works(card):
        with setting_up as work:
            rows.append(work.row(repeats))
    head = ("operation", "ours", "reference", "ratio: minimum / median / maximum", "share of the limit", "limit")
    print_table(head, rows)


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
A dry run at LaVIT-7B's full size: writes a random checkpoint in the original layout to disk, converts it, loads it in
4, 8 and 16 bits and with disk offloading, and reads and generates an image. Each step runs in its own process. Reports
the time and memory of each step, and compares the memory with the sizes from `lavit info`. Before that, it prints the
minimum time of each stage on several GPUs (roofline.py).

    python benchmarks/full_size.py --folder /big/disk/dry-run
    python benchmarks/full_size.py --layers 2 --keep    # keeps the checkpoint for the next run
    python benchmarks/full_size.py --roofline-only
"""

import multiprocessing
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from memory import PeakMemory, peak_resident_bytes
from random_original import RELEASE, ROOT, count_values, plan_original, write_original
from roofline import all_stages, print_roofline
from timing import print_machine, print_table
from transformers import BitsAndBytesConfig
from transformers.generation import BaseStreamer

from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITImageProcessor,
    LaVITPipeline,
    LaVITProcessor,
    LaVITVisualTokenizer,
)
from lavit_hf.cli.app import app
from lavit_hf.conversion.layout import PIXEL_DECODERS
from lavit_hf.hub.repo_layout import LANGUAGE_MODEL_FOLDER
from lavit_hf.tasks.describing import describe_model
from lavit_hf.tasks.repo_files import open_repo
from lavit_hf.tasks.weight_sizes import PartSize, measure_parts


DTYPE = torch.bfloat16
SELECTION = {"selection": "ratio"}  # deterministic, with the number of patches that the release was trained for

QUANTIZATIONS = {
    "4 bits": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=DTYPE),
    "8 bits": BitsAndBytesConfig(load_in_8bit=True),
}
# How the model is loaded, and the corresponding column of `lavit info`.
COLUMNS = {"4 bits": "4bit", "8 bits": "8bit", "16 bits": "16bit", "from disk": "16bit"}
READING_PARTS = ("visual tokenizer", "reading branch", "language model")
SECONDS = {"loading": "of which loading", "first": "to the first token", "token": "per further token"}
GB = 1e9


@dataclass
class Step:
    """The time and memory of a step, and its results."""

    name: str
    seconds: float
    own: int  # private memory of its process, in bytes
    resident: int  # the same, including memory-mapped files
    facts: dict[str, Any] = field(default_factory=dict)


class TokenClock(BaseStreamer):
    """Records the time of each token."""

    def __init__(self):
        self.times = []

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass

    @property
    def seconds_to_first(self) -> float:
        """The time for reading the prompt; its ids are the first item in the stream."""
        prompt, first, *_ = self.times
        return first - prompt

    @property
    def seconds_per_token(self) -> float:
        """The time per token after the first."""
        _, first, *_, last = self.times
        return (last - first) / (len(self.times) - 2)


# The steps. Each runs in its own process.


def write(original: Path, layers: int, decoders: list[str]) -> dict[str, Any]:
    """Writes the random checkpoint in the original layout."""
    partial = original.with_name(f"{original.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    size = write_original(partial, layers, pixel_decoders=decoders)
    partial.rename(original)
    return {"size": size}


def convert(original: Path, converted: Path, decoder: str) -> dict[str, Any]:
    """Converts the checkpoint with `lavit convert`."""
    arguments = ["convert", str(original), str(converted), "--pixel-decoder", decoder, "--dtype", _name(DTYPE)]
    app(arguments, standalone_mode=False)
    return {"size": sum(path.stat().st_size for path in converted.rglob("*.safetensors"))}


@torch.no_grad()
def tokenize(repo: Path, picture: Path) -> dict[str, Any]:
    """Tokenizes an image with the visual tokenizer only."""
    start = time.perf_counter()
    visual_tokenizer = LaVITVisualTokenizer.from_pretrained(repo, dtype=DTYPE, **SELECTION)
    loaded = time.perf_counter()
    pixel_values = LaVITImageProcessor.from_pretrained(repo)(picture, return_tensors="pt").pixel_values
    codes = visual_tokenizer(pixel_values).codes[0]
    return {
        "loading": loaded - start,
        "codes": codes.tolist(),
        "weights": bytes_of(visual_tokenizer),
    }


@torch.no_grad()
def read(repo: Path, picture: Path, how: str, new_tokens: int, memory: str, scratch: Path) -> dict[str, Any]:
    """Captions an image with a few tokens."""
    clock = TokenClock()
    start = time.perf_counter()
    model = _load_reader(repo, how, memory, scratch)
    loaded = time.perf_counter()
    weights = bytes_of(model)
    model.visual_tokenizer.config.selection = SELECTION["selection"]
    inputs = LaVITProcessor.from_pretrained(repo)(images=picture, return_tensors="pt")
    tokens = model.get_image_tokens(inputs.pixel_values)[0]
    model.generate(**inputs, num_beams=1, min_new_tokens=new_tokens, max_new_tokens=new_tokens, streamer=clock)
    return {
        "loading": loaded - start,
        "first": clock.seconds_to_first,
        "token": clock.seconds_per_token,
        "codes": (tokens[1:-1] - model.config.first_code_token_id).tolist(),
        "weights": weights,
    }


def paint(repo: Path, codes: list[int], steps: int) -> dict[str, Any]:
    """Generates an image of the pixel decoder's default size."""
    start = time.perf_counter()
    pipeline = LaVITPipeline.from_pretrained(repo, language_model=None, dtype=DTYPE)
    loaded = time.perf_counter()
    ids = torch.tensor(codes) + LaVITConfig.from_pretrained(repo).first_code_token_id
    generator = torch.Generator().manual_seed(0)
    with PeakMemory() as denoising:
        latents = pipeline(
            image_token_ids=[ids], num_inference_steps=steps, generator=generator, output_type="latent"
        ).images
    with PeakMemory() as decoding:
        pipeline.decode_latents(latents)
    pipeline.vae.enable_tiling()
    # By default, a tile is as large as the whole image.
    pipeline.vae.tile_sample_min_size //= 2
    pipeline.vae.tile_latent_min_size //= 2
    with PeakMemory() as tiles:
        pipeline.decode_latents(latents)
    work = {"U-Net, guidance": denoising.bytes, "VAE": decoding.bytes, "VAE, in tiles of half the side": tiles.bytes}
    models = (pipeline.detokenizer, pipeline.unet, pipeline.vae)
    return {"loading": loaded - start, "weights": sum(map(bytes_of, models)), "work": work}


def _load_reader(repo: Path, how: str, memory: str, scratch: Path) -> LaVITForCausalLM:
    if how != "from disk":
        return LaVITForCausalLM.from_pretrained(
            repo, dtype=DTYPE, device_map="cpu", quantization_config=QUANTIZATIONS.get(how)
        )
    return LaVITForCausalLM.from_pretrained(
        repo,
        subfolder=LANGUAGE_MODEL_FOLDER if (repo / LANGUAGE_MODEL_FOLDER).is_dir() else "",
        dtype=DTYPE,
        device_map="auto",
        max_memory={"cpu": memory},
        offload_folder=scratch / "offloaded",
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# Measuring.


def bytes_of(model: torch.nn.Module) -> int:
    """The size of a model's weights in bytes, without those on disk."""
    tensors = {tensor.data_ptr(): tensor for tensor in model.state_dict().values() if isinstance(tensor, torch.Tensor)}
    return sum(tensor.nbytes for tensor in tensors.values() if tensor.device.type != "meta")


def run_step(name: str, function: Callable[..., dict], *arguments) -> Step | None:
    """Runs a step in its own process; returns `None` if the operating system killed it."""
    print(f"{name} ...", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            step = pool.submit(measure, name, function, arguments).result()
        except BrokenProcessPool:
            print("... killed by the operating system, probably because it ran out of memory", flush=True)
            return None
    memory = f"{step.own / GB:.1f} GB, {step.resident / GB:.1f} GB with mapped files"
    print(f"... {step.seconds:.0f} s, {memory}", flush=True)
    return step


def measure(name: str, function: Callable[..., dict], arguments: tuple) -> Step:
    """Runs a step in this process."""
    start = time.perf_counter()
    with PeakMemory() as memory:
        facts = function(*arguments)
    return Step(name, time.perf_counter() - start, memory.peak, peak_resident_bytes(), facts)


def check_disk(folder: Path, layers: int, decoder: str) -> None:
    """Checks that there is enough disk space for the original checkpoint and the converted one."""
    plans = [plan_original(layers, chosen) for chosen in (_held_by(decoder), [decoder] if _held_by(decoder) else [])]
    needed = 2 * sum(map(count_values, plans))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise typer.BadParameter(
            f"{folder} has {free / GB:.0f} GB free, but {needed / GB:.0f} GB are needed. Pass another --folder, or "
            "fewer --layers."
        )


def print_steps(steps: list[Step]) -> None:
    """Prints the table of times and memory."""
    rows = [
        (
            step.name,
            f"{step.seconds:.0f}",
            *("" if name not in step.facts else f"{step.facts[name]:.1f}" for name in SECONDS),
            f"{step.own / GB:.1f}",
            f"{step.resident / GB:.1f}",
        )
        for step in steps
    ]
    print_table(("step", "seconds", *SECONDS.values(), "private memory, GB", "with mapped files, GB"), rows)


def print_weights(steps: list[Step], parts: list[PartSize]) -> None:
    """Prints the sizes of the loaded weights and those computed by `lavit info`."""
    rows = []
    for step in steps:
        if "weights" in step.facts:
            counted = sum(part.bytes[_column(step.name)] for part in parts if part.name in _parts_of(step.name, parts))
            rows.append((step.name, f"{step.facts['weights'] / GB:.2f}", f"{counted / GB:.2f}"))
    print_table(("weights in memory, GB", "loaded", "counted"), rows)


def print_work(steps: list[Step]) -> None:
    """Prints the memory that is needed on top of the weights."""
    rows = [(part, f"{size / GB:.1f}") for step in steps for part, size in step.facts.get("work", {}).items()]
    if rows:
        print_table(("on top of the weights", "GB"), rows)


def print_checks(steps: list[Step], converted: Path) -> None:
    """Prints whether the codes are the same in all steps, and whether the sizes match those of the release."""
    found = {step.name: step.facts["codes"] for step in steps if "codes" in step.facts}
    if found:
        same = len(set(map(tuple, found.values()))) == 1
        print(f"codes of {', '.join(found)}: {'the same' if same else found}")
    sizes, released = (describe_model(LaVITConfig.from_pretrained(path)) for path in (converted, RELEASE))
    different = [
        f"{topic} {name}: {value}, not {released[topic][name]}"
        for topic, entries in sizes.items()
        for name, value in entries.items()
        if value != released[topic][name] and name != "dtype"
    ]
    print(f"sizes: {', '.join(different) or f'same as {RELEASE.relative_to(ROOT)}'}")


def _held_by(decoder: str) -> list[str]:
    """The pixel decoders in an original checkpoint, which contains either both or none."""
    return list(PIXEL_DECODERS) if decoder != "none" else []


def _column(step: str) -> str:
    return next((column for how, column in COLUMNS.items() if how in step), "16bit")


def _parts_of(step: str, parts: list[PartSize]) -> tuple[str, ...]:
    if step.startswith("read"):
        return READING_PARTS
    if step.startswith("generate"):
        return tuple(part.name for part in parts if part.name not in READING_PARTS)
    return READING_PARTS[:1]


def make_checkpoint(original: Path, converted: Path, layers: int, decoder: str, keep: bool) -> list[Step | None]:
    """Writes and converts the checkpoint, unless it already exists."""
    steps = []
    if not converted.exists():
        if not original.exists():
            check_disk(original.parent, layers, decoder)
            steps.append(run_step("write", write, original, layers, _held_by(decoder)))
        steps.append(run_step("convert", convert, original, converted, decoder))
        if not keep:
            shutil.rmtree(original)
    return steps


def use_checkpoint(
    converted: Path,
    scratch: Path,
    read_in: Sequence[str],
    decoder: str,
    offload_memory: str,
    new_tokens: int,
    denoising_steps: int,
    picture: Path,
) -> list[Step | None]:
    """Tokenizes and reads an image with the model in each form, and generates an image from its codes."""
    steps = [run_step("visual tokenizer only", tokenize, converted, picture)]
    for how in read_in:
        steps.append(run_step(f"read, {how}", read, converted, picture, how, new_tokens, offload_memory, scratch))
    codes = next((step.facts["codes"] for step in steps if step and "codes" in step.facts), None)
    if decoder != "none" and denoising_steps and codes:
        steps.append(run_step(f"generate an image, {denoising_steps} steps", paint, converted, codes, denoising_steps))
    return steps


def report(steps: list[Step], converted: Path) -> None:
    """Prints all tables."""
    for step in steps:
        if "size" in step.facts:
            print(f"{step.name}: {step.facts['size'] / GB:.1f} GB on disk")
    print()
    print_steps(steps)
    print_weights(steps, measure_parts(open_repo(str(converted))))
    print_work(steps)
    print_checks(steps, converted)


def main(
    folder: Annotated[Path, typer.Option(help="Folder to write to.")] = ROOT / ".cache" / "full-size",
    layers: Annotated[int, typer.Option(help="Number of LLaMA blocks of 0.4 GB; 32 at full size.", min=1)] = 32,
    decoder: Annotated[str, typer.Option(help="Pixel decoder to convert: highres, lowres or none.")] = "highres",
    read_in: Annotated[
        list[str] | None, typer.Option(help=f"Forms to load the model in: {', '.join(COLUMNS)}; all by default.")
    ] = None,
    offload_memory: Annotated[
        str, typer.Option(help="Maximum size of the weights in memory with disk offloading.")
    ] = "6GB",
    new_tokens: Annotated[int, typer.Option(help="Number of tokens per caption.", min=3)] = 6,
    denoising_steps: Annotated[int, typer.Option(help="Number of denoising steps; 0 generates no image.")] = 1,
    picture: Annotated[Path, typer.Option(help="Image to read.")] = ROOT / "examples" / "images" / "cat.jpg",
    keep: Annotated[bool, typer.Option(help="Keep the checkpoint for the next run.")] = False,
    roofline_only: Annotated[bool, typer.Option(help="Only print the minimum times on GPUs.")] = False,
) -> None:
    """Write, convert, load and run a checkpoint of LaVIT-7B's size."""
    if decoder not in ("none", *PIXEL_DECODERS):
        raise typer.BadParameter(f"--decoder must be none, {' or '.join(PIXEL_DECODERS)}.")
    if unknown := [how for how in read_in or () if how not in COLUMNS]:
        raise typer.BadParameter(f"--read-in must be one of {', '.join(COLUMNS)}, not {unknown[0]}.")
    print_machine()
    print_roofline(all_stages())
    if roofline_only:
        return
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    original, converted, scratch = (folder / name for name in ("original", "converted", "scratch"))
    try:
        steps = make_checkpoint(original, converted, layers, decoder, keep)
        scratch.mkdir(exist_ok=True)
        steps += use_checkpoint(
            converted, scratch, read_in or list(COLUMNS), decoder, offload_memory, new_tokens, denoising_steps, picture
        )
        report([step for step in steps if step is not None], converted)
    finally:
        if not keep:
            for path in (original, converted, scratch, original.with_name(f"{original.name}.partial")):
                shutil.rmtree(path, ignore_errors=True)
            if is_new:
                folder.rmdir()
    if None in steps:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

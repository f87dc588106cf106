# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Computes the roofline of LaVIT-7B: for each stage, the bytes that it reads, its floating-point operations, and the
minimum time for them given a GPU's bandwidth and matmul rate. Counted on the meta device, without weights.

A stage takes at least `max(bytes / bandwidth, operations / matmul rate)`. The bytes include the weights, once each,
and the KV cache, but not activations, nor the selector and codebook, which are smaller than 1% of the encoder.

    python benchmarks/roofline.py                       # only computes
    python benchmarks/roofline.py --measure --layers 8  # also measures what share of it this machine's GPU reaches
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from random_original import PIXEL_DECODER_CONFIGS, RELEASE
from timing import print_machine, print_table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lavit_hf import LaVITConfig, LaVITDetokenizerConfig, LaVITForCausalLM
from lavit_hf.conversion.pixel_decoder import empty_model
from lavit_hf.lavit.modeling_visual_tokenizer import KeptCounts
from lavit_hf.lavit.quantization_lavit import UNQUANTIZED_MODULES
from lavit_hf.tasks.repo_files import TensorHeader
from lavit_hf.tasks.weight_sizes import LANGUAGE_MODEL, PartSize


FORMS = {"16 bits": "16bit", "8 bits": "8bit", "4 bits": "4bit"}  # with the corresponding columns of `lavit info`
CACHE_WIDTH = 2  # bytes per value
PROMPT_LENGTH = 32  # text tokens in a prompt with an image
GB, TERA = 1e9, 1e12


@dataclass(frozen=True)
class Card:
    """A GPU's bytes per second and dense fp16 operations per second (accumulated in fp32), from its specifications."""

    bandwidth: float
    matmul_rate: float

    def least_seconds(self, num_bytes: float, operations: float) -> float:
        """The minimum time according to the roofline."""
        return max(num_bytes / self.bandwidth, operations / self.matmul_rate)


CARDS = {
    "A100": Card(2.039e12, 312e12),
    "H100": Card(3.35e12, 989e12),
    "RTX 4090": Card(1.008e12, 165e12),
}


@dataclass(frozen=True)
class Stage:
    """The bytes that a stage reads in each of `FORMS`, and its number of operations."""

    name: str
    bytes: dict[str, float]
    operations: int

    def least_seconds(self, card: Card, form: str) -> float:
        return card.least_seconds(self.bytes[form], self.operations)


class ReadingModel:
    """
    LaVIT without a pixel decoder, divided into stages.

    Args:
        layers (`int`, *optional*):
            Number of language model layers; that of the release by default.
        device (`str`, *optional*, defaults to `"meta"`):
            Device for the model, which has random weights.
        config (`LaVITConfig`, *optional*):
            Configuration; that of the release by default.
    """

    def __init__(self, layers: int | None = None, device: str = "meta", config: LaVITConfig | None = None):
        config = config or LaVITConfig.from_pretrained(RELEASE)
        config.text_config.num_hidden_layers = layers or config.text_config.num_hidden_layers
        config.visual_tokenizer_config.selection = "ratio"  # so that the number of kept patches is known
        config.visual_tokenizer_config.merger_softmax = "masked"
        self.config, self.device = config, device
        with torch.device("meta"):
            self.model = LaVITForCausalLM(config).eval().to(torch.float16)
        if device != "meta":
            self.model.to_empty(device=device)
            _fill(self.model)

    def stages(self) -> dict[str, tuple[Callable[[], object], tuple[nn.Module, ...], float]]:
        """For each stage, its function, the modules that it reads, and the bytes that it reads from the KV cache."""
        model, tokenizer = self.model, self.model.visual_tokenizer
        filled = PROMPT_LENGTH + self.config.visual_tokenizer_config.num_kept
        cache = self._cache_bytes(filled)
        text, guided = (self._step(rows, filled) for rows in (1, 2))
        decoder = (model.language_model, model.lm_head)
        return {
            "encoder": (self._encode, (tokenizer.encoder,), 0),
            "merger for codes": (self._merge, (tokenizer.merger,), 0),
            "merger for reading": (self._read, (model.understanding.merger, model.understanding.projection), 0),
            f"prompt of {filled}": (lambda: self._decode(1, filled), decoder, 0),
            "a token of text": (text, decoder, cache),
            "an image id, guided": (guided, decoder, 2 * cache),
        }

    def _encode(self) -> torch.Tensor:
        config = self.config.visual_tokenizer_config
        with self._here():
            return self.model.visual_tokenizer.encode(torch.zeros(1, 3, config.image_size, config.image_size))

    def _merge(self) -> torch.Tensor:
        with self._here():
            return self.model.visual_tokenizer.merger(*self._patches())

    def _read(self) -> torch.Tensor:
        understanding = self.model.understanding
        with self._here():
            return understanding.projection(understanding.merger(*self._patches()))

    def _patches(self) -> tuple[torch.Tensor, torch.Tensor, KeptCounts]:
        config = self.config.visual_tokenizer_config
        keep_mask = torch.arange(config.num_patches)[None] < config.num_kept
        return torch.zeros(1, config.num_patches, config.hidden_size), keep_mask, KeptCounts([config.num_kept])

    def _decode(self, rows: int, length: int, cache=None):
        with self._here():
            states = torch.zeros(rows, length, self.config.text_config.hidden_size)
            outputs = self.model.model(inputs_embeds=states, cache=cache, use_cache=True)
            self.model.compute_logits(outputs.last_hidden_state[:, -1:])
        return outputs.cache

    def _step(self, rows: int, length: int) -> Callable[[], object]:
        cache = self._decode(rows, length)

        def step() -> None:
            self._decode(rows, 1, cache)
            cache.crop(-1)

        return step

    def _cache_bytes(self, length: int) -> float:
        text = self.config.text_config
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return 2 * CACHE_WIDTH * text.num_hidden_layers * text.num_key_value_heads * head_dim * length

    @contextmanager
    def _here(self) -> Iterator[None]:
        """Creates new tensors in fp16 on the device."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float16)
        try:
            with torch.device(self.device), torch.no_grad():
                yield
        finally:
            torch.set_default_dtype(before)


@torch.no_grad()
def _fill(model: nn.Module) -> None:
    """Fills a model with values that don't overflow; times don't depend on them."""
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    for buffer in model.buffers():
        buffer.zero_()


def count_operations(function: Callable[[], object]) -> int:
    """Number of multiplications and additions in the matmuls, convolutions and attention of a function."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def count_bytes(modules: tuple[nn.Module, ...]) -> dict[str, float]:
    """Size of the weights in each form, computed as in `lavit info`, without embedding tables."""
    total = dict.fromkeys(FORMS, 0.0)
    for module in modules:
        is_quantized = isinstance(module, nn.Linear) or hasattr(module, "get_input_embeddings")
        for name, weight in module.named_parameters():
            if isinstance(module.get_submodule(name.rpartition(".")[0]), nn.Embedding):
                continue  # each step reads only one row
            size = PartSize(LANGUAGE_MODEL if is_quantized and not _is_head(module) else "")
            size.add(TensorHeader(name, tuple(weight.shape)))
            for form, column in FORMS.items():
                total[form] += size.bytes[column]
    return total


def _is_head(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and any("lm_head" in pattern for pattern in UNQUANTIZED_MODULES)


def reading_stages(reader: ReadingModel) -> list[Stage]:
    """The stages of reading images and generating text and image ids."""
    return [
        Stage(name, {form: size + cache for form, size in count_bytes(modules).items()}, count_operations(run))
        for name, (run, modules, cache) in reader.stages().items()
    ]


def painting_stages(configs: Path) -> list[Stage]:
    """The stages from codes to pixels at the decoder's default size, except the detokenizer, which runs only once."""
    condition = LaVITDetokenizerConfig.from_pretrained(configs / "detokenizer")
    unet, vae = empty_model(configs / "unet", UNet2DConditionModel), empty_model(configs / "vae", AutoencoderKL)
    side = unet.config.sample_size
    with torch.device("meta"), torch.no_grad():
        embeds = torch.empty(2, condition.num_patches, unet.config.cross_attention_dim)
        width = condition.pooled_projection_dim
        pooled = {} if width is None else {"text_embeds": torch.empty(2, width), "time_ids": torch.empty(2, 6)}
        noise, latents = torch.empty(2, 4, side, side), torch.empty(1, 4, side, side)
        runs = {
            "a step of the U-Net, guided": (lambda: unet(noise, 1, embeds, added_cond_kwargs=pooled), unet),
            "VAE": (lambda: vae.decode(latents), vae.decoder),
        }
        return [Stage(name, count_bytes((module,)), count_operations(run)) for name, (run, module) in runs.items()]


def all_stages(layers: int | None = None) -> list[Stage]:
    """The stages of LaVIT-7B with the high-resolution pixel decoder."""
    return [*reading_stages(ReadingModel(layers)), *painting_stages(PIXEL_DECODER_CONFIGS / "highres")]


def print_roofline(stages: list[Stage], cards: dict[str, Card] = CARDS) -> None:
    """Prints the bytes and operations of each stage, and its minimum time on each GPU."""
    rows = [
        (stage.name, *(f"{stage.bytes[form] / GB:.2f}" for form in FORMS), f"{stage.operations / TERA:.3f}")
        for stage in stages
    ]
    print_table(("stage", *(f"GB in {form}" for form in FORMS), "TFLOP"), rows)
    head = ("minimum milliseconds", *(f"{card}, {form}" for card in cards for form in FORMS))
    rows = [
        (stage.name, *(f"{1e3 * stage.least_seconds(card, form):.2f}" for card in cards.values() for form in FORMS))
        for stage in stages
    ]
    print_table(head, rows)


def measure(reader: ReadingModel, stages: list[Stage], card: Card, repeats: int) -> list[tuple[str, ...]]:
    """The measured and the minimum time of each stage on the device, in milliseconds."""
    rows = []
    for name, (run, _, _) in reader.stages().items():
        least = next(stage for stage in stages if stage.name == name).least_seconds(card, "16 bits")
        seconds = statistics.median(_timed(run, reader.device) for _ in range(repeats + 1))
        rows.append((name, f"{1e3 * seconds:.2f}", f"{1e3 * least:.2f}", f"{least / seconds:.0%}"))
    return rows


def _timed(run: Callable[[], object], device: str) -> float:
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def find_card(device: str) -> tuple[str, Card]:
    """The name and rates of this machine's device; the rates are measured if the device is not in `CARDS`."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "this CPU"
    for known, card in CARDS.items():
        if known in name:
            return name, card
    return f"{name}, measured rates", measure_card(device)


def measure_card(device: str, side: int = 4096) -> Card:
    """Measures the bandwidth of a copy, and the matmul rate of square matrices."""
    dtype = torch.float16 if device.startswith("cuda") else torch.bfloat16
    matrix = torch.randn(side, side, device=device).to(dtype)
    target = torch.empty_like(matrix)
    copy = min(_timed(lambda: target.copy_(matrix), device) for _ in range(10))
    product = min(_timed(lambda: torch.mm(matrix, matrix), device) for _ in range(5))
    return Card(2 * matrix.nbytes / copy, 2 * math.prod((side, side, side)) / product)


def main(
    run_it: Annotated[bool, typer.Option("--measure", help="Also measure this machine's device.")] = False,
    layers: Annotated[int | None, typer.Option(help="Number of language model layers; all by default.")] = None,
    device: Annotated[str, typer.Option(help="Device to measure.")] = "cuda",
    repeats: Annotated[int, typer.Option(help="Number of timed runs; the median is shown.", min=1)] = 7,
) -> None:
    """Print the roofline of LaVIT-7B, and optionally the share of it that a device reaches."""
    print_machine()
    stages = all_stages(layers)
    print_roofline(stages)
    if not run_it:
        return
    if device.startswith("cuda") and not torch.cuda.is_available():
        print("No CUDA device was found, so nothing was measured.")
        return
    name, card = find_card(device)
    reader = ReadingModel(layers, device)
    print_table((name, "milliseconds", "minimum", "share reached"), measure(reader, stages, card, repeats))


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Estimates what training LaVIT-7B takes: data, memory, time and cost. Sizes are from the configurations; all other
inputs are in `Assumptions`, `GPUS` and `MEASURED` below, and can be replaced with your own.

    python examples/scale.py           # prints the tables
    python examples/scale.py --write   # also writes them to scale.md
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lavit_hf import (
    LaVITConfig,
    LaVITDetokenizer,
    LaVITDetokenizerConfig,
    LaVITForCausalLM,
    LaVITVisualTokenizerConfig,
)


PAGE = Path(__file__).with_name("scale.md")
MARKS = ("<!-- begin: scale.py -->", "<!-- end: scale.py -->")


@dataclass(frozen=True)
class Gpu:
    """A GPU to train on."""

    flops: float  # per second, dense, bf16
    dollars: float  # per hour


GPUS = {"A100 80 GB": Gpu(flops=312e12, dollars=1.5), "H100 80 GB": Gpu(flops=989e12, dollars=2.5)}
COUNTS = (8, 64, 256)

# Speed of `LaVITTrainer` relative to the bare computation, such as 0.9: "relative speed" in benchmarks/training.py
# (here, the lower of two runs). Without a measurement, the target in `AIMS` is used.
MEASURED: dict[str, float | None] = {"stage 1": 0.96, "stage 2": 1.18}
AIMS = {"stage 1": 0.85, "stage 2": 0.95}


@dataclass(frozen=True)
class Assumptions:
    """The training recipe, as far as the paper and its authors describe it, and assumptions for the rest."""

    # Published (arXiv 2309.04669 and its authors' answers).
    stage_1_steps: int = 50_000
    stage_1_batch: int = 2048
    read_pairs: float = 93e6  # of stage 2, in the layout [image, text]
    written_pairs: float = 100e6  # in the layout [text, image]
    text_ratio: float = 2.0  # text-only to image-text data; assumed to be a ratio of tokens
    pixel_decoder_steps: int = 20_000
    # Assumed.
    pixel_decoder_batch: int = 512
    text_length: int = 20  # tokens of a caption
    jpeg_bytes: float = 30e3  # of a 256 px image
    tokens_per_gpu: int = 16384  # in a forward and backward pass of stage 2
    images_per_gpu: int = 256  # in a forward and backward pass of stage 1
    # Share of the GPU's peak rate that the bare computation reaches.
    rates: dict[str, dict[str, float]] = field(
        default_factory=lambda: {
            "A100 80 GB": {"stage 1": 0.45, "pretokenize": 0.45, "stage 2": 0.50, "pixel decoder": 0.30},
            "H100 80 GB": {"stage 1": 0.35, "pretokenize": 0.35, "stage 2": 0.40, "pixel decoder": 0.22},
        }
    )
    # Efficiency by the number of GPUs that wait for each other.
    efficiency: dict[int, float] = field(default_factory=lambda: {8: 1.0, 64: 0.95, 256: 0.9})

    @property
    def stage_1_images(self) -> float:
        """Number of images in stage 1."""
        return self.stage_1_steps * self.stage_1_batch

    @property
    def pairs(self) -> float:
        """Number of pairs in stage 2, in both layouts."""
        return self.read_pairs + self.written_pairs

    @property
    def pixel_decoder_images(self) -> float:
        """Number of images for the pixel decoder."""
        return self.pixel_decoder_steps * self.pixel_decoder_batch


class Sizes:
    """Parameters and floating-point operations of LaVIT-7B, computed from default configurations without weights."""

    def __init__(self, assumptions: Assumptions):
        with torch.device("meta"):
            visual_config = LaVITVisualTokenizerConfig(merger_softmax="masked")
            self.model = LaVITForCausalLM(LaVITConfig(visual_tokenizer_config=visual_config))
            self.detokenizer = LaVITDetokenizer(LaVITDetokenizerConfig())
            self.unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)  # Stable Diffusion 1.5's
            self.vae = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
            )
        self.visual, self.text = self.model.config.visual_tokenizer_config, self.model.config.text_config
        self.patches = self.visual.num_patches
        self.kept = round(self.patches * self.visual.keep_ratio)
        self.pair_length = self.kept + 2 + assumptions.text_length + 1

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Number of parameters of each part."""
        tokenizer = self.model.visual_tokenizer
        parts = {
            "encoder (ViT-g/14)": tokenizer.encoder,
            "selector": tokenizer.selector,
            "merger": tokenizer.merger,
            "quantizer and codebook": tokenizer.quantizer,
            "detokenizer": self.detokenizer,
            "understanding branch": self.model.understanding,
            "language model": nn.ModuleList([self.model.language_model, self.model.lm_head]),
            "U-Net (512 px)": self.unet,
        }
        return {name: _count_parameters(part) for name, part in parts.items()}

    @cached_property
    def flops(self) -> dict[str, float]:
        """Operations of each part's forward pass, per image, or per token for the language model."""
        tokenizer, size, side = self.model.visual_tokenizer, self.visual.image_size, self.unet.config.sample_size
        width, dropped = self.visual.hidden_size, self.patches - self.kept
        merge = _count_flops(
            lambda: tokenizer.merger.layers[0](_rows(self.kept, width), _rows(dropped, width), None, None)
        )
        rebuild = _count_flops(
            lambda: self.detokenizer.layers[0](_rows(self.patches, width), _rows(self.kept, width), None, None)
        )
        prompt_width = self.unet.config.cross_attention_dim
        context = self.text.num_hidden_layers * 4 * self.text.hidden_size * self.pair_length / 2
        return {
            "encoder": _count_flops(lambda: tokenizer.encoder(torch.zeros(1, 3, size, size))),
            "selector": 2 * self.patches * self.parameters["selector"],
            "merger": merge * self.visual.num_hidden_layers,
            "detokenizer": rebuild * self.detokenizer.config.num_hidden_layers,
            "language model": 2 * (self.parameters["language model"] - self.embeddings) + context,
            "U-Net": _count_flops(
                lambda: self.unet(torch.zeros(1, 4, side, side), torch.zeros(1), _rows(self.patches, prompt_width))
            ),
            "VAE encoder": _count_flops(lambda: self.vae.encoder(torch.zeros(1, 3, 8 * side, 8 * side))),
        }

    @property
    def embeddings(self) -> int:
        """Number of parameters of the input embeddings, which need no operations."""
        return self.text.vocab_size * self.text.hidden_size

    @property
    def trained_in_stage_1(self) -> int:
        """Number of parameters that stage 1 trains."""
        names = ("selector", "merger", "quantizer and codebook", "detokenizer")
        return sum(self.parameters[name] for name in names)

    @property
    def trained_in_stage_2(self) -> int:
        """Number of parameters that stage 2 trains."""
        return self.parameters["language model"] + self.parameters["understanding branch"]


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _count_flops(run: Callable[[], object]) -> float:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def _rows(count: int, width: int) -> torch.Tensor:
    return torch.zeros(1, count, width)


@dataclass(frozen=True)
class Work:
    """A stage's computation. A backward pass costs twice its forward pass; recomputed activations don't count."""

    name: str
    items: float
    unit: str
    flops: float  # per item


def works(sizes: Sizes, assumptions: Assumptions) -> list[Work]:
    """The stages of the recipe."""
    flops, tokens = sizes.flops, assumptions.pairs * sizes.pair_length
    trained = flops["selector"] + flops["merger"] + flops["detokenizer"]
    tokenize = flops["encoder"] + flops["selector"] + flops["merger"]
    reading = 3 * flops["merger"] * assumptions.read_pairs  # the understanding branch's merger is trained
    all_tokens = tokens * (1 + assumptions.text_ratio)
    picture = tokenize + flops["detokenizer"] + flops["VAE encoder"] + 3 * flops["U-Net"]
    return [
        Work("stage 1", assumptions.stage_1_images, "images", flops["encoder"] + 3 * trained),
        Work("pretokenize", assumptions.pairs, "images", tokenize),
        Work("stage 2", all_tokens, "tokens", 3 * flops["language model"] + reading / all_tokens),
        Work("pixel decoder", assumptions.pixel_decoder_images, "images", picture),
    ]


def gpu_hours(work: Work, gpu: str, count: int, assumptions: Assumptions) -> float:
    """GPU hours of a stage on `count` GPUs."""
    rate = GPUS[gpu].flops * assumptions.rates[gpu][work.name] * assumptions.efficiency[count]
    share = min(MEASURED.get(work.name) or AIMS.get(work.name, 1.0), 1.0)  # gains in small runs are ignored
    return work.items * work.flops / (rate * share) / 3600


def bytes_per_image(sizes: Sizes, assumptions: Assumptions) -> dict[str, float]:
    """Storage per image, depending on the setting `rows` of pretokenize.py, which always stores codes and masks."""
    codes = 4 * sizes.kept + sizes.patches / 8
    half = 2  # bytes
    return {
        "images, as JPEG": assumptions.jpeg_bytes,
        "pixels, preprocessed for the encoder": 3 * sizes.visual.image_size**2 * half,
        "`rows: none`, codes only": codes,
        "`rows: merged`": codes + sizes.kept * sizes.visual.hidden_size * half,
        "`rows: features`": codes + sizes.patches * sizes.visual.feature_size * half,
    }


def stage_1_memory(sizes: Sizes, assumptions: Assumptions) -> dict[str, float]:
    """Bytes on each GPU under DDP, in fp32 with bf16 autocast and gradient checkpointing."""
    layer_rows = (
        sizes.kept * sizes.visual.num_hidden_layers + sizes.patches * sizes.detokenizer.config.num_hidden_layers
    )
    layer = 34 * sizes.patches * sizes.visual.hidden_size  # activations inside one block, arXiv 2205.05198
    distances = 3 * 4 * sizes.kept * sizes.visual.codebook_size  # distances between rows and codes, and one-hot codes
    per_image = 4 * layer_rows * sizes.visual.hidden_size + layer + distances
    return {
        "parameters": 4 * (sizes.trained_in_stage_1 + sizes.parameters["encoder (ViT-g/14)"]),
        "gradients": 4 * sizes.trained_in_stage_1,
        "optimizer": 8 * sizes.trained_in_stage_1,
        "activations": per_image * assumptions.images_per_gpu,
    }


def stage_2_memory(sizes: Sizes, assumptions: Assumptions, count: int) -> dict[str, float]:
    """Bytes on each GPU under FSDP, in fp32 with bf16 autocast and gradient checkpointing."""
    tokens, width = assumptions.tokens_per_gpu, sizes.text.hidden_size
    everything = sum(
        sizes.parameters[name]
        for name in ("language model", "understanding branch", "selector", "merger", "quantizer and codebook")
    )
    gathered = 2 * 2 * sizes.embeddings  # the largest FSDP units, embeddings and head, in bf16
    logits = (4 + 4 + 2) * tokens * sizes.text.vocab_size  # if every token were a target
    return {
        "parameters": 4 * everything / count + gathered,
        "gradients": 4 * sizes.trained_in_stage_2 / count,
        "optimizer": 8 * sizes.trained_in_stage_2 / count,
        "activations": (4 * sizes.text.num_hidden_layers + 34) * tokens * width + logits,
    }


def tables(assumptions: Assumptions | None = None) -> str:
    """All tables, as Markdown."""
    assumptions = assumptions or Assumptions()
    sizes = Sizes(assumptions)
    parts = [
        ("Sizes", _sizes_table(sizes)),
        ("Data", _data_table(sizes, assumptions)),
        ("Memory per GPU, in GB", _memory_table(sizes, assumptions)),
        ("Computation", _work_table(sizes, assumptions)),
        ("Time and cost", _time_table(sizes, assumptions)),
        ("Measured", _measured_table()),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts)


def _sizes_table(sizes: Sizes) -> str:
    rows = [(name, f"{count / 1e6:,.0f}") for name, count in sizes.parameters.items()]
    rows.append(("**trained in stage 1**", f"{sizes.trained_in_stage_1 / 1e6:,.0f}"))
    rows.append(("**trained in stage 2**", f"{sizes.trained_in_stage_2 / 1e6:,.0f}"))
    return _table(("part", "parameters, millions"), rows)


def _data_table(sizes: Sizes, assumptions: Assumptions) -> str:
    counts = {"read": assumptions.read_pairs, "written": assumptions.written_pairs}
    rows = [
        (form, f"{size / 1e3:,.1f}", *(f"{size * count / 1e12:.2f}" for count in counts.values()))
        for form, size in bytes_per_image(sizes, assumptions).items()
    ]
    columns = [f"TB for {count / 1e6:.0f} million pairs {what}" for what, count in counts.items()]
    return _table(("data", "KB per image", *columns), rows)


def _memory_table(sizes: Sizes, assumptions: Assumptions) -> str:
    settings = {"stage 1, DDP, any number of GPUs": stage_1_memory(sizes, assumptions)}
    for count in COUNTS:
        settings[f"stage 2, FSDP, {count} GPUs"] = stage_2_memory(sizes, assumptions, count)
    rows = [
        (name, *(f"{size / 1e9:.1f}" for size in memory.values()), f"**{sum(memory.values()) / 1e9:.0f}**")
        for name, memory in settings.items()
    ]
    return _table(("", "parameters", "gradients", "optimizer", "activations", "total"), rows)


def _work_table(sizes: Sizes, assumptions: Assumptions) -> str:
    rows = [
        (
            work.name,
            f"{work.items / 1e6:,.0f} million {work.unit}",
            f"{work.flops / 1e9:,.0f}",
            f"{work.items * work.flops:.1e}",
        )
        for work in works(sizes, assumptions)
    ]
    return _table(("stage", "items", "GFLOP per item", "FLOP in total"), rows)


def _time_table(sizes: Sizes, assumptions: Assumptions) -> str:
    rows = []
    for gpu in GPUS:
        totals = dict.fromkeys(COUNTS, 0.0)
        for work in works(sizes, assumptions):
            hours = {count: gpu_hours(work, gpu, count, assumptions) for count in COUNTS}
            totals = {count: totals[count] + hours[count] for count in COUNTS}
            rate = work.items / (hours[COUNTS[0]] * 3600)
            rows.append((gpu, work.name, f"{rate:,.0f} {work.unit}/s", *_hours_and_money(hours, gpu)))
        rows.append((gpu, "**total**", "", *_hours_and_money(totals, gpu)))
    columns = [f"{count} GPUs" for count in COUNTS]
    return _table(("GPU", "stage", "rate per GPU", *columns), rows)


def _hours_and_money(hours: dict[int, float], gpu: str) -> Iterator[str]:
    return (f"{hours[count] / count:,.1f} h, ${hours[count] * GPUS[gpu].dollars:,.0f}" for count in hours)


def _measured_table() -> str:
    rows = [
        (name, f"{AIMS[name]:.0%}", "not yet" if share is None else f"{share:.0%}") for name, share in MEASURED.items()
    ]
    return _table(("share of the bare computation's speed", "target", "measured"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def main(write: Annotated[bool, typer.Option(help="Whether to write the tables to scale.md.")] = False) -> None:
    """Print the tables."""
    text = tables()
    print(text)
    if write:
        begin, end = MARKS
        pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", flags=re.DOTALL)
        PAGE.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", PAGE.read_text()))


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Computes the memory that LaVIT-7B needs, from the configurations in hub_configs/.

    python benchmarks/memory_table.py           # prints the tables
    python benchmarks/memory_table.py --write   # also writes them to docs/memory.md
"""

import re
from collections.abc import Sequence
from typing import Annotated

import typer
from random_original import PIXEL_DECODER_CONFIGS, RELEASE, ROOT
from timing import format_table
from transformers import GenerationConfig, PreTrainedConfig

from lavit_hf import LaVITConfig
from lavit_hf.tasks.repo_files import open_repo
from lavit_hf.tasks.weight_sizes import PartSize, add_up, measure_parts


PAGE = ROOT / "docs" / "memory.md"
MARKS = ("<!-- begin: memory_table.py -->", "<!-- end: memory_table.py -->")

COLUMNS = {"float32": "fp32", "16bit": "bf16, fp16", "8bit": "8 bits", "4bit": "4 bits, NF4"}
PEAK_COLUMNS = ("16bit", "8bit", "4bit")
DECODERS = {"highres": "1024 px", "lowres": "512 px"}
PROMPT_LENGTH = 20  # tokens of the text to generate an image from
# Bytes on top of the weights for a 1024 px image, as measured on a CPU by benchmarks/full_size.py: the U-Net with
# guidance in bf16, the VAE in fp32.
WORK = {"unet": 0.8e9, "vae": 4.1e9}
HALF = 2  # bytes per value in bf16 or fp16
GB, MB, KB = 1e9, 1e6, 1e3


def cache_bytes_per_token(text_config: PreTrainedConfig, width: int = HALF) -> int:
    """Size of the keys and values of a token in all layers, with `width` bytes per value."""
    heads = text_config.num_key_value_heads * text_config.head_dim
    return 2 * text_config.num_hidden_layers * heads * width


def cached_tokens(config: LaVITConfig, generation: GenerationConfig) -> dict[str, int]:
    """Maximum number of tokens in the KV cache by task, over all rows of the batch."""
    visual = config.visual_tokenizer_config
    marks = 2
    kept, longest = (round(visual.num_patches * share) + marks for share in (visual.keep_ratio, 1))
    beams, branches = generation.num_beams, 2  # guidance adds an unconditional branch
    drawn = PROMPT_LENGTH + 1 + generation.image_generation["max_new_tokens"]
    return {
        "a token": 1,
        f"an image at the target ratio of patches, {kept} tokens": kept,
        f"an image with all patches, {longest} tokens": longest,
        f"a caption of {generation.max_new_tokens} tokens, {beams} beams": beams * (kept + generation.max_new_tokens),
        f"an image of {drawn - PROMPT_LENGTH - 1} tokens from {PROMPT_LENGTH} text tokens, with guidance": branches
        * drawn,
    }


def weights_table() -> str:
    """The table of weights, by part and in total."""
    reader = measure_parts(open_repo(str(RELEASE)))
    rows = [_weights_row(part.name, part) for part in reader]
    rows.append(_weights_row("**total without pixel decoder**", add_up(reader)))
    for resolution, pixels in DECODERS.items():
        decoder = measure_parts(open_repo(str(PIXEL_DECODER_CONFIGS / resolution)))
        rows += [_weights_row(f"{_called(part)}, {pixels}", part) for part in decoder]
        rows.append(_weights_row(f"**total with pixel decoder, {pixels}**", add_up([*reader, *decoder])))
    return format_table(("part", "parameters, millions", *(f"{name}, GB" for name in COLUMNS.values())), rows)


def cache_table() -> str:
    """The table of KV cache sizes."""
    config, generation = LaVITConfig.from_pretrained(RELEASE), GenerationConfig.from_pretrained(RELEASE)
    one = cache_bytes_per_token(config.text_config)
    rows = [(name, _small(count * one)) for name, count in cached_tokens(config, generation).items()]
    return format_table(("KV cache for", "bf16, fp16"), rows)


def peak_table() -> str:
    """The table of peak memory: weights, KV cache and activations."""
    config, generation = LaVITConfig.from_pretrained(RELEASE), GenerationConfig.from_pretrained(RELEASE)
    reader = add_up(measure_parts(open_repo(str(RELEASE)))).bytes
    decoder = {part.name: part.bytes for part in measure_parts(open_repo(str(PIXEL_DECODER_CONFIGS / "highres")))}
    *_, caption, drawn = (
        count * cache_bytes_per_token(config.text_config) for count in cached_tokens(config, generation).values()
    )
    rows = {name: [] for name in ("caption", "image, all parts in memory", "image, one part at a time")}
    for column in PEAK_COLUMNS:
        parts = {name: sizes[column] + WORK.get(name, 0) for name, sizes in decoder.items()}
        weights = reader[column] + sum(sizes[column] for sizes in decoder.values())
        rows["caption"].append(reader[column] + caption)
        rows["image, all parts in memory"].append(weights + max(drawn, *WORK.values()))
        rows["image, one part at a time"].append(max(reader[column] + drawn, *parts.values()))
    return format_table(
        ("peak memory for one image", *(f"{COLUMNS[column]}, GB" for column in PEAK_COLUMNS)),
        [(name, *(f"{size / GB:.1f}" for size in sizes)) for name, sizes in rows.items()],
    )


def tables() -> str:
    """All tables, as Markdown."""
    return "\n\n".join((weights_table(), cache_table(), peak_table()))


def _weights_row(name: str, part: PartSize) -> tuple[str, ...]:
    return (name, f"{part.parameters / 1e6:,.0f}", *(f"{part.bytes[column] / GB:.2f}" for column in COLUMNS))


def _called(part: PartSize) -> str:
    return {"unet": "U-Net", "vae": "VAE"}.get(part.name, part.name)


def _small(count: float) -> str:
    return f"{count / MB:.0f} MB" if count >= MB else f"{count / KB:.0f} KB"


def replace_between(marks: Sequence[str], page: str, text: str) -> str:
    """Replaces the text between two marks on a page."""
    begin, end = marks
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", flags=re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", page)


def main(write: Annotated[bool, typer.Option(help="Also write the tables to docs/memory.md.")] = False) -> None:
    """Print the tables."""
    text = tables()
    print(text)
    if write:
        PAGE.write_text(replace_between(MARKS, PAGE.read_text(), text))


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Writes the model card of `lavit-emoji`, its table from what `evaluate.py` measured.

    python examples/emoji/card.py --model .cache/emoji/lavit-emoji --evaluation .cache/emoji/evaluation/evaluation.json
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from lavit_hf import LaVITConfig, create_model_card
from lavit_hf.bundled import BUNDLED_CHECKPOINT
from lavit_hf.lavit.atomic_saving import atomic_update


ATTRIBUTION = Path(__file__).with_name("ATTRIBUTION.md")
SPLIT_TITLES = {"test_drawings": "held-out drawings", "test_concepts": "held-out concepts"}

ROWS = {  # what stands in the table, and where it lies among the figures
    "caption equals the name, greedy": ("caption_greedy", "exact_match", "share"),
    "caption equals the name, 5 beams": ("caption_beam", "exact_match", "share"),
    "the name's words in the caption, greedy": ("caption_greedy", "keyword_recall", "share"),
    "the name's words in the caption, 5 beams": ("caption_beam", "keyword_recall", "share"),
    "caption has a word of name or keywords, greedy": ("caption_greedy", "any_keyword", "share"),
    "cosine of rebuilt features": ("tokens", "reconstruction_cosine", "number"),
    "kept patches: mean": ("tokens", "kept_mean", "number"),
    "kept patches: standard deviation": ("tokens", "kept_std", "number"),
    "kept patches: fewest": ("tokens", "kept_min", "whole"),
    "kept patches: most": ("tokens", "kept_max", "whole"),
    "busier pictures keep more (rank correlation)": ("tokens", "kept_with_busyness", "number"),
    "codes in use": ("tokens", "codes_used", "share"),
    "judge on the drawings themselves: first, first five": ("judge_on_drawings", ("top_1", "top_5"), "share"),
    "judge on reconstructions: first, first five": ("reconstruction", ("top_1", "top_5"), "share"),
    "the same, the most faithful of 8 candidates": ("reconstruction_chosen", ("top_1", "top_5"), "share"),
    "judge on pictures of the name: first, first five": ("text_to_picture", ("top_1", "top_5"), "share"),
    "the same, of those the most faithful of 8": ("text_to_picture_chosen", ("top_1", "top_5"), "share"),
}
FORMATS = {"share": "{:.0%}", "number": "{:.2f}", "whole": "{:d}"}

DESCRIPTION = """A small LaVIT ([arXiv 2309.04669](https://arxiv.org/abs/2309.04669)), {megabytes:.0f} MB, that
`lavit_hf` ships: one language model that reads and writes emoji. The encoder is EfficientNet-Lite0, frozen; the rest
was trained from scratch on two CPU cores, by the scripts that `make checkpoint` runs.{note}"""

USAGE = """```python
from lavit_hf import LaVITPipeline, bundled_checkpoint

pipeline = LaVITPipeline.from_pretrained(bundled_checkpoint())
pipeline("red apple").images[0].save("apple.png")
```"""

FIGURES = """On drawings that it was not trained on, of concepts that it knows from other artists (held-out drawings),
and of concepts of which it saw no drawing at all (held-out concepts). The judge is a linear probe on the encoder's
features, trained on the training drawings; by chance a name is among its first five in {chance:.1%} of pictures.
Candidates are chosen without it, but by the same encoder, so there it is less independent.

{table}"""

LIMITS = """It knows emoji and little else: a photograph gets the name of an emoji ({photographs}). Pictures are small
and of simple shape. It writes no sentences."""

LICENCE = """The weights are Apache-2.0. The encoder is EfficientNet-Lite0 (Apache-2.0), the drawings and words are
these:

{attribution}"""


def table(figures: Mapping) -> str:
    """The figures as a Markdown table, a column for each split."""
    splits = [name for name in SPLIT_TITLES if name in figures]
    lines = ["| | " + " | ".join(SPLIT_TITLES[name] for name in splits) + " |", "| --- |" + " --- |" * len(splits)]
    for title, (group, keys, kind) in ROWS.items():
        keys = (keys,) if isinstance(keys, str) else keys
        cells = [
            ", ".join(FORMATS[kind].format(figures[split][group][key]) for key in keys)
            if group in figures[split]
            else ""
            for split in splits
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe_photographs(captions: Mapping[str, str]) -> str:
    """What it said about which photograph."""
    return ", ".join(f'{name}: "{caption}"' for name, caption in captions.items())


def training_log(folders: Mapping[str, Path]) -> str:
    """The last logged losses of the stages whose folders are there."""
    lines = []
    for title, folder in folders.items():
        states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
        if states:
            history = json.loads(states[-1].read_text())["log_history"]
            losses = {}
            for entry in history:
                losses |= {name: value for name, value in entry.items() if name.endswith("loss") and value}
            shown = ", ".join(f"{name} {value:.3f}" for name, value in sorted(losses.items()))
            lines.append(f"* {title}, {history[-1]['step']} steps: {shown}")
    return "\n".join(lines)


def main(
    model: Annotated[Path, typer.Option(help="The repo that bundle.py wrote.")],
    evaluation: Annotated[Path, typer.Option(help="The figures that evaluate.py wrote.")],
    note: Annotated[str, typer.Option(help="What else is to be said of how it was trained.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder of the stages' runs.")] = Path(".cache/emoji"),
) -> None:
    """Write the card, and keep figures and attributions beside it."""
    figures = json.loads(evaluation.read_text())
    unet = json.loads((model / "unet" / "config.json").read_text())
    vae = json.loads((model / "vae" / "config.json").read_text())
    stages = {"stage 1": "visual-tokenizer", "stage 2": "language-model", "pixel decoder": "pixel-decoder"}
    log = training_log({title: runs / folder for title, folder in stages.items()})
    megabytes = sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 1e6
    card = create_model_card(
        LaVITConfig.from_pretrained(model),
        BUNDLED_CHECKPOINT,
        description=DESCRIPTION.format(megabytes=megabytes, note=f" {note}" if note else ""),
        picture_size=unet["sample_size"] * vae["patch_size"],
        sections={
            "Usage": USAGE,
            "What it can do": FIGURES.format(chance=figures["chance_top_5"], table=table(figures)),
            **({"The end of training": log} if log else {}),
            "Limits": LIMITS.format(photographs=describe_photographs(figures["photographs"])),
            "Licence": LICENCE.format(attribution=ATTRIBUTION.read_text().split("\n\n", 2)[2]),
        },
        language="en",
        license="apache-2.0",
        tags=["emoji"],
    )
    with atomic_update(model) as folder:
        card.save(folder / "README.md")
        shutil.copy(evaluation, folder / "evaluation.json")
    print(table(figures))


if __name__ == "__main__":
    typer.run(main)

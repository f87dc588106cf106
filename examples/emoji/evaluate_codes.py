# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
How well the codes of trained tokenizers rebuild the encoder's features of sheets: several runs side by side.

    python examples/emoji/evaluate_codes.py .cache/emoji/visual-tokenizer .cache/emoji/any-patches \
        --sheets .cache/emoji/sheets --split validation
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from evaluate_selection import Sheets, encode

from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizerForPreTraining
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.training.data import load_split
from lavit_hf.training.settings import RUN_NAME


def load_run(folder: Path) -> LaVITVisualTokenizerForPreTraining:
    """The model of a run, which selects and places as it did in training."""
    model = LaVITVisualTokenizerForPreTraining.from_pretrained(folder).eval()
    settings = json.loads((folder / RUN_NAME).read_text())
    model.shuffles_selection, model.knows_places = settings["shuffle_selection"], settings["know_places"]
    return model


@torch.no_grad()
def code_figures(model: LaVITVisualTokenizerForPreTraining, sheets: Sheets, seed: int) -> dict:
    """Mean cosines of rebuilt features, of all channels and of those that the selector reads, and use of codes."""
    generator = torch.Generator(model.device).manual_seed(seed)
    cosines, local_cosines, codes, counts, hits = [], [], [], [], 0.0
    local = model.config.selector_feature_size or model.config.feature_size
    for features in sheets.features.split(100):
        outputs = model(features=features, generator=generator)
        rebuilt = outputs.reconstructed
        cosines.append(torch.nn.functional.cosine_similarity(rebuilt, features, dim=-1))
        local_cosines.append(
            torch.nn.functional.cosine_similarity(rebuilt[..., :local], features[..., :local], dim=-1)
        )
        codes.append(outputs.codes)
        counts.append(outputs.keep_mask.sum(dim=1))
        if outputs.place_accuracy is not None:
            hits += outputs.place_accuracy.item() * len(outputs.codes)
    drawn = sheets.distance == 0
    cosines, local_cosines, codes = torch.cat(cosines), torch.cat(local_cosines), torch.cat(codes)
    return {
        "cosine": cosines.mean().item(),
        "cosine_drawn": cosines[drawn].mean().item(),
        "local_cosine": local_cosines.mean().item(),
        "local_cosine_drawn": local_cosines[drawn].mean().item(),
        "count": torch.cat(counts).float().mean().item(),
        "codes_in_use": len(codes.unique()),
        "places_right": hits / len(codes),
    }


def main(
    runs: Annotated[list[Path], typer.Argument(help="What train_visual_tokenizer.py wrote, one folder or more.")],
    sheets: Annotated[Path, typer.Option(help="What prepare_sheets.py wrote.")],
    split: Annotated[str, typer.Option(help="Its split.")] = "validation",
    output: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of random patches.")] = 0,
) -> None:
    """Print the figures of every run."""
    rows = load_split(str(sheets), split)
    known = None
    figures = {}
    for folder in runs:
        model = load_run(folder)
        known = known or encode(rows, model, LaVITImageProcessor.from_pretrained(folder))  # one encoder for all
        figures[folder.name] = code_figures(model, known, seed)
        print(folder.name, json.dumps(figures[folder.name]), flush=True)
    if output:
        with atomic_file(output) as file:
            file.write_text(json.dumps({split: figures}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Compares how well the codes of several trained tokenizers reconstruct the encoder's features of sheets.

    python examples/emoji/evaluate_codes.py .cache/emoji/visual-tokenizer .cache/emoji/any-patches \
        --sheets .cache/emoji/sheets --split validation
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from lavit_emoji.measures.keeping import BATCH_SIZE, Sheets, cosine_figures, encode
from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizerForPreTraining
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.training.data import load_split
from lavit_hf.training.settings import RUN_NAME, load_function


def load_run(folder: Path) -> LaVITVisualTokenizerForPreTraining:
    """The model of a run, with the patch selection and positions that it was trained with."""
    model = LaVITVisualTokenizerForPreTraining.from_pretrained(folder).eval()
    settings = json.loads((folder / RUN_NAME).read_text())
    model.knows_places = settings["know_places"]
    model.patch_choice = load_function(settings["patch_choice"]) if settings["patch_choice"] else None
    return model


@torch.no_grad()
def code_figures(model: LaVITVisualTokenizerForPreTraining, sheets: Sheets, seed: int) -> dict[str, float]:
    """Mean cosines of reconstructed features, over all channels and over those that the selector reads; codes used."""
    generator = torch.Generator(model.device).manual_seed(seed)
    outputs = [model(features=features, generator=generator) for features in sheets.features.split(BATCH_SIZE)]
    rebuilt, codes = (torch.cat([output[name] for output in outputs]) for name in ("reconstructed", "codes"))
    local, drawn = slice(model.config.selector_feature_size), sheets.distance == 0
    figures = cosine_figures("cosine", rebuilt, sheets.features, drawn)
    figures |= cosine_figures("local_cosine", rebuilt[..., local], sheets.features[..., local], drawn)
    if outputs[0].place_accuracy is not None:
        right = sum(output.place_accuracy * len(output.codes) for output in outputs)
        figures["places_right"] = right.item() / len(codes)
    return figures | {"count": len(codes) / len(rebuilt), "codes_in_use": len(codes.unique())}


def main(
    runs: Annotated[list[Path], typer.Argument(help="One or more outputs of train_visual_tokenizer.py.")],
    sheets: Annotated[Path, typer.Option(help="Output of prepare_sheets.py.")],
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "validation",
    output: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed, for random patches.")] = 0,
) -> None:
    """Print the figures of each run."""
    rows = load_split(str(sheets), split)
    known = None
    figures = {}
    for folder in runs:
        model = load_run(folder)
        known = known or encode(
            rows, model.visual_tokenizer, LaVITImageProcessor.from_pretrained(folder)
        )  # all runs have the same encoder
        figures[folder.name] = code_figures(model, known, seed)
        print(folder.name, json.dumps(figures[folder.name]), flush=True)
    if output:
        with atomic_file(output) as file:
            file.write_text(json.dumps({split: figures}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures which patches of sheets a trained selector keeps; for sheets, it is known which patches are drawn.

    python examples/emoji/evaluate_selection.py --model .cache/emoji/token-selection --sheets .cache/emoji/sheets \
        --split validation --picture kept-patches.png
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from lavit_emoji.measures.keeping import Sheets, cosine_figures, draw_probabilities, encode, kept_figures, select
from lavit_hf import LaVITImageProcessor, LaVITTokenSelectionForPreTraining
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.training.data import load_split
from lavit_hf.visualization import image_grid, save_image


COLUMNS = 8  # sheets per row of the image


def top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Masks of the `count` patches of each image with the highest scores."""
    best = scores.topk(count, dim=1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True)


@torch.no_grad()
def rebuilt_figures(model: LaVITTokenSelectionForPreTraining, probs: torch.Tensor, sheets: Sheets, seed: int) -> dict:
    """Mean cosine of features reconstructed from a fixed number of patches: the selector's best, and random ones."""
    count = round(model.config.keep_ratio * probs.shape[1])
    generator = torch.Generator(probs.device).manual_seed(seed)
    random = torch.rand(probs.shape, generator=generator, device=probs.device)
    figures = {"patches": count}
    for name, scores in (("selected", probs), ("random", random)):
        rebuilt = model.reconstruct(sheets.features, top(scores, count))
        targets = sheets.features[..., : rebuilt.shape[-1]]
        figures |= cosine_figures(name, rebuilt, targets, sheets.distance == 0)
    return figures


def main(
    model: Annotated[Path, typer.Option(help="Output of train_token_selection.py.")],
    sheets: Annotated[Path, typer.Option(help="Output of prepare_sheets.py.")],
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "validation",
    output: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
    picture: Annotated[Path | None, typer.Option(help="File for an image of the kept patches.")] = None,
    num_pictures: Annotated[int, typer.Option(help="Number of sheets in the image.")] = 24,
    seed: Annotated[int, typer.Option(help="Random seed, for random patches.")] = 0,
) -> None:
    """Print the figures of a split."""
    trained = LaVITTokenSelectionForPreTraining.from_pretrained(model).eval()
    rows = load_split(str(sheets), split)
    known = encode(rows, trained.visual_tokenizer, LaVITImageProcessor.from_pretrained(model))
    kept, probs = select(trained.visual_tokenizer, known.features)
    figures = kept_figures(kept, probs, known) | {"cosine": rebuilt_figures(trained, probs, known, seed)}
    figures["threshold"] = trained.config.keep_threshold
    text = json.dumps({split: figures}, indent=2)
    print(text)
    if output:
        with atomic_file(output) as file:
            file.write_text(text + "\n")
    if picture:
        shown = [draw_probabilities(rows[i]["image"], kept[i], probs[i]) for i in range(num_pictures)]
        save_image(image_grid(shown, COLUMNS, padding=2, background=(0, 0, 0)), picture)


if __name__ == "__main__":
    typer.run(main)

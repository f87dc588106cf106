# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What a trained selector keeps of sheets, of which it is known where something is drawn.

    python examples/emoji/evaluate_selection.py --model .cache/emoji/token-selection --sheets .cache/emoji/sheets \
        --split validation --picture kept-patches.png
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from datasets import Dataset
from PIL import Image, ImageDraw, ImageFont

from lavit_hf import LaVITImageProcessor, LaVITTokenSelectionForPreTraining
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.training.data import load_split
from lavit_hf.training.meters import rank_correlation
from lavit_hf.visualization import image_grid, save_image


CELL, COLUMNS = 192, 8  # of the picture: width of a sheet in pixels, sheets in a row


@dataclass
class Sheets:
    """Features of sheets, and what is known of each: `(num_sheets, num_patches)`, and how many drawings it has."""

    features: torch.Tensor
    drawn: torch.Tensor
    distance: torch.Tensor
    number: torch.Tensor


@torch.no_grad()
def encode(rows: Dataset, model: LaVITTokenSelectionForPreTraining, processor: LaVITImageProcessor) -> Sheets:
    """Runs the encoder on sheets."""
    features = []
    for batch in rows.iter(64):
        images = [image.convert("RGB") for image in batch["image"]]
        pixel_values = processor(images, return_tensors="pt").pixel_values.to(model.device)
        features.append(model.visual_tokenizer.encode(pixel_values).last_hidden_state)
    return Sheets(
        torch.cat(features),
        torch.tensor(rows["drawn"], device=model.device),
        torch.tensor(rows["distance"], device=model.device),
        torch.tensor([len(names) for names in rows["names"]], device=model.device),
    )


def select(model: LaVITTokenSelectionForPreTraining, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which patches are kept by threshold, and the probabilities."""
    tokenizer = model.visual_tokenizer
    kept, log_probs = tokenizer.select(features, tokenizer.embedding(features))
    return kept, log_probs[..., 0].exp()


def by_number(values: torch.Tensor, number: torch.Tensor) -> list[float]:
    """The mean of values over sheets of one drawing, of two and so on."""
    return [values[number == count].mean().item() for count in number.unique()]


def kept_figures(kept: torch.Tensor, probs: torch.Tensor, sheets: Sheets) -> dict:
    """How much is kept where, and how the count follows what there is."""
    kept, counts = kept.float(), kept.sum(dim=1).float()
    drawn = sheets.distance == 0
    side = int(drawn.shape[1] ** 0.5)
    places = torch.arange(drawn.shape[1], device=drawn.device)
    border = sum(axis % (side - 1) == 0 for axis in (places // side, places % side)) > 0
    where = {
        "inside": sheets.drawn > 0.9,
        "edge": drawn & (sheets.drawn <= 0.9),
        "drawn": drawn,
        "drawn_at_border": drawn & border,
        "drawn_elsewhere": drawn & ~border,
        "touching": sheets.distance == 1,
        "far": sheets.distance >= 2,
    }
    by_threshold = by_number(counts, sheets.number)
    return {
        "probability": {"drawn": probs[drawn].mean().item(), "blank": probs[~drawn].mean().item()},
        "undecided": ((probs > 0.1) & (probs < 0.9)).float().mean().item(),
        "kept": {name: kept[mask].mean().item() for name, mask in where.items()},
        "count": counts.mean().item(),
        "count_std": counts.std().item(),
        "count_by_lot": probs.sum(dim=1).mean().item(),
        "count_by_number": by_threshold,
        "count_by_lot_by_number": by_number(probs.sum(dim=1), sheets.number),
        "four_to_one": by_threshold[-1] / by_threshold[0],
        "count_to_drawn_area": rank_correlation(counts, sheets.drawn.sum(dim=1)).item(),
    }


def top(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Masks of the best patches of each image."""
    best = scores.topk(count, dim=1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, best, True)


@torch.no_grad()
def rebuilt_figures(model: LaVITTokenSelectionForPreTraining, probs: torch.Tensor, sheets: Sheets, seed: int) -> dict:
    """Mean cosine of rebuilt features at a fixed number of patches, the selector's best and random ones."""
    count = round(model.config.keep_ratio * probs.shape[1])
    generator = torch.Generator(probs.device).manual_seed(seed)
    random = torch.rand(probs.shape, generator=generator, device=probs.device)
    figures = {"patches": count}
    for name, scores in (("selected", probs), ("random", random)):
        rebuilt = model.reconstruct(sheets.features, top(scores, count))
        targets = sheets.features[..., : rebuilt.shape[-1]]
        cosines = torch.nn.functional.cosine_similarity(rebuilt, targets, dim=-1)
        figures[name] = cosines.mean().item()
        figures[f"{name}_drawn"] = cosines[sheets.distance == 0].mean().item()
    return figures


def draw_patches(image: Image.Image, kept: torch.Tensor, probs: torch.Tensor) -> Image.Image:
    """A picture with its kept patches framed, and the probabilities in percent."""
    picture = image.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(9)
    side = int(len(kept) ** 0.5)
    width = CELL / side
    for place, (is_kept, prob) in enumerate(zip(kept.tolist(), probs.tolist())):
        left, top = (place % side) * width, (place // side) * width
        draw.text((left + width / 2, top + width / 2), f"{100 * prob:.0f}", (0, 0, 0), font, anchor="mm")
        if is_kept:
            draw.rectangle((left + 1, top + 1, left + width - 2, top + width - 2), outline=(255, 0, 0))
    return picture


def main(
    model: Annotated[Path, typer.Option(help="What train_token_selection.py wrote.")],
    sheets: Annotated[Path, typer.Option(help="What prepare_sheets.py wrote.")],
    split: Annotated[str, typer.Option(help="Its split.")] = "validation",
    output: Annotated[Path | None, typer.Option(help="File for the figures.")] = None,
    picture: Annotated[Path | None, typer.Option(help="File for a picture of kept patches.")] = None,
    num_pictures: Annotated[int, typer.Option(help="Sheets on the picture.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the random patches.")] = 0,
) -> None:
    """Print the figures of a split."""
    trained = LaVITTokenSelectionForPreTraining.from_pretrained(model).eval()
    rows = load_split(str(sheets), split)
    known = encode(rows, trained, LaVITImageProcessor.from_pretrained(model))
    with torch.no_grad():
        kept, probs = select(trained, known.features)
    figures = kept_figures(kept, probs, known) | {"cosine": rebuilt_figures(trained, probs, known, seed)}
    figures["threshold"] = trained.config.keep_threshold
    text = json.dumps({split: figures}, indent=2)
    print(text)
    if output:
        with atomic_file(output) as file:
            file.write_text(text + "\n")
    if picture:
        shown = [draw_patches(rows[index]["image"], kept[index], probs[index]) for index in range(num_pictures)]
        save_image(image_grid(shown, COLUMNS, padding=2, background=(0, 0, 0)), picture)


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Chooses the images that the codes are trained on last: drawings in color and sheets, like those that LaVIT learns to
write. Also fits a probe that predicts colors from features, so that the codes preserve the colors.

    python examples/emoji/choose_written.py --features .cache/emoji/features --pictures .cache/emoji/pictures \
        --output .cache/emoji/written
"""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from datasets import Dataset, DatasetDict
from PIL import Image
from safetensors.torch import save_file

from initialize import FEATURE_SIZE, IMAGE_SIZE, PATCH_SIZE
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.training.data import load_split
from lavit_hf.training.feature_rows import from_bytes
from lavit_hf.training.pixel_data import check_pairs
from pair_texts import WRITTEN_STYLES, is_written_drawing


WHITE = 0.93  # minimum of each channel of a white pixel, in [0, 1]
MOST_OF_EDGE, LEAST_CHROMA = 0.6, 0.15  # minimum values for views in color on a white background
GRID, CELLS = IMAGE_SIZE // PATCH_SIZE, 2  # patches per side of the image, and color cells per side of a patch
RIDGE = 100.0
PROBE_ROWS, PROBE_HELD_OUT = 2500, 500


def look_at(image: Image.Image) -> tuple[float, float]:
    """The white share of an image's border, and the mean chroma of all other pixels, both in [0, 1]."""
    pixels = np.asarray(image, np.float32) / 255
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    drawn = pixels[pixels.min(axis=-1) < WHITE]
    chroma = float((drawn.max(axis=-1) - drawn.min(axis=-1)).mean()) if len(drawn) else 0.0
    return float((edge.min(axis=-1) > WHITE).mean()), chroma


def is_colored_view(row: dict, image: Image.Image) -> bool:
    """Whether a view of a drawing is still in color and on a white background."""
    if row["view"] == 0 or row["style"] not in WRITTEN_STYLES:
        return False
    white, chroma = look_at(image)
    return white > MOST_OF_EDGE and chroma > LEAST_CHROMA


def choose_rows(features: Dataset, pictures: Dataset, num_sheets: int, chance: np.random.Generator) -> np.ndarray:
    """Row numbers in random order: unmodified drawings (twice), their views in color, and sheets."""
    drawings, views, sheets = [], [], []
    rows = zip(features.select_columns(["style", "view"]), pictures.select_columns("image"))
    for number, (row, picture) in enumerate(rows):
        if row["style"] == "sheet":
            sheets.append(number)
        elif is_written_drawing(row):
            drawings.append(number)
        elif is_colored_view(row, read(picture["image"])):
            views.append(number)
    chosen = chance.choice(sheets, min(num_sheets, len(sheets)), replace=False)
    typer.echo(f"{len(drawings)} drawings, {len(views)} views of them, {len(chosen)} sheets")
    return chance.permutation(np.concatenate([drawings, drawings, views, chosen]).astype(int))


def read(picture: bytes) -> Image.Image:
    """Decodes an image."""
    return Image.open(io.BytesIO(picture)).convert("RGB")


def colors_of_patches(pictures: Iterable[bytes]) -> torch.Tensor:
    """Standardized luma and chroma of the cells of each patch, `(number, num_patches, 3 * CELLS**2)`."""
    size = GRID * CELLS
    small = [read(picture).convert("YCbCr").resize((size, size), Image.Resampling.BOX) for picture in pictures]
    cells = torch.stack([torch.from_numpy(np.array(image)) for image in small]).float()
    cells = cells.view(-1, GRID, CELLS, GRID, CELLS, 3).permute(0, 1, 3, 2, 4, 5).reshape(len(small), GRID**2, -1)
    return (cells - cells.mean((0, 1))) / cells.std((0, 1))


def fit_probe(features: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression: returns the weight, `(num_values, feature_size)`, and its R2 on the last images."""
    rows, held_out = (part.flatten(0, 1) for part in features.tensor_split([-PROBE_HELD_OUT]))
    targets, held_out_targets = (part.flatten(0, 1) for part in values.tensor_split([-PROBE_HELD_OUT]))
    mean = rows.mean(dim=0)
    rows = rows - mean
    weight = torch.linalg.solve(rows.T @ rows + RIDGE * torch.eye(rows.shape[1]), rows.T @ targets)
    errors = ((held_out - mean) @ weight - held_out_targets).square().mean(dim=0)
    return weight.T.contiguous(), 1 - errors / held_out_targets.var(dim=0)


def main(
    features: Annotated[Path, typer.Option(help="Output of cache_features.py, all splits.")],
    pictures: Annotated[Path, typer.Option(help="Output of view_pictures.py, all splits.")],
    output: Annotated[Path, typer.Option(help="Folder for the dataset and the probe.")],
    num_sheets: Annotated[int, typer.Option(help="Number of sheets.")] = 14_000,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Choose rows of the train split, and fit the probe."""
    rows, images = load_split(str(features), "train"), load_split(str(pictures), "train")
    check_pairs(images, rows)
    chance = np.random.default_rng(seed)
    chosen = choose_rows(rows, images, num_sheets, chance)
    numbers = chance.choice(chosen, min(PROBE_ROWS, len(chosen)), replace=False)
    sample = rows.select(numbers)
    seen = torch.stack([from_bytes(row["features"], FEATURE_SIZE).float() for row in sample])
    weight, explained = fit_probe(seen, colors_of_patches(images.select(numbers)["image"]))
    luma, blue, red = explained.view(-1, 3).mean(dim=0).tolist()
    typer.echo(f"the probe explains {luma:.2f} of luma, {blue:.2f} and {red:.2f} of chroma")
    DatasetDict(train=rows.select_columns(["features", "style", "row", "view"]).select(chosen)).save_to_disk(output)
    with atomic_file(output / "probe.safetensors") as file:  # written last: if it exists, all does
        save_file({"weight": weight}, file)


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Saves a contact sheet of sheets, with the caption and a question for each.

    python examples/emoji/show_sheets.py --sheets .cache/emoji/sheets --output sheets.png
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import torch
import typer
from datasets import load_from_disk
from PIL import Image

from lavit_hf.visualization import draw_keep_mask, image_grid, save_image


COLUMNS = 6


def show(rows: Iterable[Mapping], patches: bool = False) -> Image.Image:
    """
    Creates a contact sheet of sheets.

    Args:
        rows (`Iterable[Mapping]`): Rows from `prepare_sheets.py`.
        patches (`bool`, *optional*, defaults to `False`):
            Whether to dim the patches in which nothing is drawn.

    Returns:
        `PIL.Image.Image`: The contact sheet. Below each sheet are its caption and one of its questions; their kinds
        alternate.
    """
    images, titles = [], []
    for number, row in enumerate(rows):
        image = row["image"].resize((256, 256), Image.Resampling.BICUBIC)
        images.append(draw_keep_mask(image, torch.tensor(row["distance"]) == 0, size=256) if patches else image)
        asked = number % len(row["questions"])
        titles.append(f"{row['caption']}. {row['questions'][asked]} {row['answers'][asked]}")
    return image_grid(images, COLUMNS, titles)


def main(
    sheets: Annotated[Path, typer.Option(help="Output of prepare_sheets.py.")],
    output: Annotated[Path, typer.Option(help="File for the image.")],
    split: Annotated[str, typer.Option(help="Split to take the sheets from.")] = "train",
    number: Annotated[int, typer.Option(min=1, help="Number of sheets, starting with the first.")] = 24,
    patches: Annotated[bool, typer.Option(help="Dim the patches where nothing is drawn.")] = False,
) -> None:
    """Save the contact sheet."""
    rows = load_from_disk(sheets)[split]
    save_image(show(rows.select(range(min(number, len(rows)))), patches), output)


if __name__ == "__main__":
    typer.run(main)

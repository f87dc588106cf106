# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Saves an image of the patches that a visual tokenizer keeps of drawings, of sheets with one to four drawings, and of
photographs.

    python examples/emoji/show_kept.py --model .cache/emoji/lavit-emoji --data .cache/emoji/set \
        --sheets .cache/emoji/sheets --output kept-patches.jpg
"""

from pathlib import Path
from typing import Annotated

import typer
from datasets import Dataset, load_from_disk
from PIL import Image

from lavit_emoji.measures.keeping import mark_kept
from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer
from lavit_hf.visualization import image_grid, save_image


PHOTOGRAPHS = Path(__file__).parents[1] / "images"
COLUMNS, CELL = 6, 192  # images per row, and their width in pixels


def choose_sheets(sheets: Dataset, number: int) -> list[Image.Image]:
    """
    The first sheets with one, two, three and four drawings, in turn.

    Args:
        sheets ([`~datasets.Dataset`]): Rows from `prepare_sheets.py`.
        number (`int`): Number of sheets.

    Returns:
        `list[PIL.Image.Image]`: The sheets; fewer if there aren't enough.
    """
    by_count = {}
    for row, names in enumerate(sheets["names"]):
        by_count.setdefault(len(names), []).append(row)
    turns = zip(*(rows[:number] for _, rows in sorted(by_count.items())))
    return [sheets[row]["image"] for turn in turns for row in turn][:number]


def show_kept(
    images: list[Image.Image], tokenizer: LaVITVisualTokenizer, processor: LaVITImageProcessor
) -> Image.Image:
    """
    Creates a contact sheet of images with their kept patches.

    Args:
        images (`list[PIL.Image.Image]`): Images of any size.
        tokenizer ([`LaVITVisualTokenizer`]): The visual tokenizer.
        processor ([`LaVITImageProcessor`]): Its image processor.

    Returns:
        `PIL.Image.Image`: The contact sheet. Dropped patches are gray and dimmed.
    """
    return image_grid(list(mark_kept(images, tokenizer, processor, CELL)), COLUMNS)


def main(
    model: Annotated[Path, typer.Option(help="A LaVIT model, or a visual tokenizer from stage 1.")],
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    sheets: Annotated[Path, typer.Option(help="Output of prepare_sheets.py.")],
    output: Annotated[Path, typer.Option(help="File for the image.")],
    split: Annotated[str, typer.Option(help="Split to take the drawings and sheets from.")] = "test_drawings",
    drawings: Annotated[int, typer.Option(min=0, help="Number of drawings.")] = 6,
    number: Annotated[int, typer.Option("--number", min=0, help="Number of sheets.")] = 12,
) -> None:
    """Save the image, with the photographs last."""
    rows = load_from_disk(data)[split]
    singles = list(rows.select(range(min(drawings, len(rows))))["image"])
    photographs = [Image.open(path) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    images = singles + choose_sheets(load_from_disk(sheets)[split], number) + photographs
    tokenizer = LaVITVisualTokenizer.from_pretrained(model, dtype="float32").eval()
    save_image(show_kept(images, tokenizer, LaVITImageProcessor.from_pretrained(model)), output)


if __name__ == "__main__":
    typer.run(main)

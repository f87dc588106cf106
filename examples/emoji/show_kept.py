# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
An image of what a visual tokenizer keeps: of drawings, of sheets of one to four, and of photographs.

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
COLUMNS, CELL = 6, 192  # images in a row, and their width in pixels


def choose_sheets(sheets: Dataset, number: int) -> list[Image.Image]:
    """
    The first sheets of one drawing, of two, of three, of four, of one again and so on.

    Args:
        sheets ([`~datasets.Dataset`]): Rows of what `prepare_sheets.py` wrote.
        number (`int`): How many.

    Returns:
        `list[PIL.Image.Image]`: The sheets; fewer where there are not enough.
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
    Puts marked images on a contact sheet.

    Args:
        images (`list[PIL.Image.Image]`): Images of any size.
        tokenizer ([`LaVITVisualTokenizer`]): Whose selector chooses.
        processor ([`LaVITImageProcessor`]): Its image processor.

    Returns:
        `PIL.Image.Image`: The contact sheet. Patches that are dropped are grey and dimmed.
    """
    return image_grid(list(mark_kept(images, tokenizer, processor, CELL)), COLUMNS)


def main(
    model: Annotated[Path, typer.Option(help="A LaVIT model, or a visual tokenizer of stage 1.")],
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    sheets: Annotated[Path, typer.Option(help="Output of prepare_sheets.py.")],
    output: Annotated[Path, typer.Option(help="File for the image.")],
    split: Annotated[str, typer.Option(help="Split of the drawings and sheets.")] = "test_drawings",
    drawings: Annotated[int, typer.Option(min=0, help="Number of drawings.")] = 6,
    number: Annotated[int, typer.Option("--number", min=0, help="Number of sheets.")] = 12,
) -> None:
    """Draw the image, with the photographs last."""
    rows = load_from_disk(data)[split]
    singles = list(rows.select(range(min(drawings, len(rows))))["image"])
    photographs = [Image.open(path) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    images = singles + choose_sheets(load_from_disk(sheets)[split], number) + photographs
    tokenizer = LaVITVisualTokenizer.from_pretrained(model, dtype="float32").eval()
    save_image(show_kept(images, tokenizer, LaVITImageProcessor.from_pretrained(model)), output)


if __name__ == "__main__":
    typer.run(main)

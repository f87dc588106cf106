# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Builds the dataset of sheets: images with one to four drawings, with captions, questions and the drawn patches.

    python examples/emoji/prepare_sheets.py --data .cache/emoji/set --output .cache/emoji/sheets
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from datasets import Dataset, DatasetDict, Features, List, Value, disable_progress_bars, load_from_disk
from datasets import Image as ImageFeature

from lavit_emoji.sheets.layout import Sheet, SheetMaker, SheetSettings, distance_by_patch, drawn_by_patch
from lavit_hf.lavit.atomic_files import atomic_folder


FEATURES = Features(
    {
        "image": ImageFeature(),
        "caption": Value("string"),
        "kinds": List(Value("string")),
        "questions": List(Value("string")),
        "answers": List(Value("string")),
        "names": List(Value("string")),
        "nouns": List(Value("string")),
        "colors": List(Value("string")),
        "concepts": List(Value("string")),
        "rows": List(Value("int32")),
        "boxes": List(List(Value("int16"))),
        "paper": List(Value("uint8")),
        "drawn": List(Value("float32")),
        "distance": List(Value("int8")),
    }
)
ONE_SIZE = SheetSettings(sizes=dict.fromkeys((1, 2, 3, 4), (36, 36)), plan="mixed", even=True)


@dataclass(frozen=True)
class SheetSplit:
    """
    A split of the dataset of sheets.

    Args:
        drawings (`str`): The split of the emoji dataset that all its drawings come from.
        number (`int`): Number of sheets.
        settings ([`SheetSettings`]): Settings of the sheets.
    """

    drawings: str
    number: int
    settings: SheetSettings


def sheet_row(sheet: Sheet, patch_size: int) -> dict:
    """Converts a sheet to a row of the dataset."""
    file = io.BytesIO()
    sheet.image.save(file, "PNG")
    drawn = drawn_by_patch(sheet.coverage, patch_size)
    things = [item.thing for item in sheet.placed]
    return {
        "image": {"bytes": file.getvalue(), "path": None},
        "caption": sheet.caption,
        "kinds": [question.kind for question in sheet.questions],
        "questions": [question.text for question in sheet.questions],
        "answers": [question.answer for question in sheet.questions],
        "names": [thing.name for thing in things],
        "nouns": [thing.noun for thing in things],
        "colors": [thing.color or "" for thing in things],
        "concepts": [thing.concept for thing in things],
        "rows": [item.row for item in sheet.placed],
        "boxes": [list(item.box) for item in sheet.placed],
        "paper": list(sheet.paper),
        "drawn": drawn.ravel().tolist(),
        "distance": distance_by_patch(drawn, patch_size).ravel().tolist(),
    }


def make_rows(maker: SheetMaker, number: int) -> Iterator[dict]:
    """Yields the first `number` sheets of a maker as rows."""
    for index in range(number):
        yield sheet_row(maker[index], maker.settings.patch_size)


def prepare_sheets(data: Path, output: Path, splits: Mapping[str, SheetSplit], seed: int = 0) -> DatasetDict:
    """
    Builds the dataset of sheets and saves it to disk atomically.

    Args:
        data (`Path`): Output of `prepare.py`.
        output (`Path`): Folder for the dataset. It must not exist.
        splits (`Mapping[str, SheetSplit]`): The splits to create, by name.
        seed (`int`, *optional*, defaults to 0): Random seed. The sheets of each split are drawn independently.

    Returns:
        [`~datasets.DatasetDict`]: The dataset.

    Raises:
        `FileExistsError`: If `output` exists.
        `ValueError`: If the emoji dataset lacks a split or masks, or a split has too few things to draw.
    """
    if output.exists():
        raise FileExistsError(f"{output} already exists. Delete it, or choose another --output.")
    drawings = load_from_disk(data)
    missing = sorted({split.drawings for split in splits.values()} - set(drawings))
    if missing:
        raise ValueError(f"{data} has no split {missing[0]!r}, only {', '.join(drawings)}.")
    with atomic_folder(output) as folder:
        sheets = DatasetDict()
        for name, split in splits.items():
            maker = SheetMaker(drawings[split.drawings], f"{seed}/{name}", split.settings)
            sheets[name] = Dataset.from_generator(
                make_rows,
                features=FEATURES,
                cache_dir=str(folder.parent / "cache"),
                gen_kwargs={"maker": maker, "number": split.number},
                fingerprint=name,
            )
        sheets.save_to_disk(folder)
    return load_from_disk(output)


def main(
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the sheets; it must not exist yet.")],
    views: Annotated[int, typer.Option(min=1, help="Number of sheets per drawing of the train split.")] = 4,
    validation: Annotated[int, typer.Option(min=1, help="Number of sheets for validation.")] = 500,
    test: Annotated[int, typer.Option(min=1, help="Number of sheets for the final figures.")] = 1000,
    one_size: Annotated[
        int, typer.Option(min=4, help="Number of sheets per *_one_size split, with one to four drawings of one size.")
    ] = 400,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Create sheets from the drawings of the splits train, validation and test_drawings."""
    disable_progress_bars()
    try:
        number = views * len(load_from_disk(data)["train"])
        splits = {
            "train": SheetSplit("train", number, SheetSettings()),
            "validation": SheetSplit("validation", validation, SheetSettings()),
            "test_drawings": SheetSplit("test_drawings", test, SheetSettings()),
            "validation_one_size": SheetSplit("validation", one_size, ONE_SIZE),
            "test_drawings_one_size": SheetSplit("test_drawings", one_size, ONE_SIZE),
        }
        sheets = prepare_sheets(data, output, splits, seed)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    for name, split in sheets.items():
        print(f"  {name}: {len(split)} sheets, such as {split[0]['caption']!r}")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Saves the views of drawings and the sheets whose features `cache_features.py` computes as small images for the pixel
decoder.

    accelerate launch examples/emoji/view_pictures.py --data .cache/emoji/set --sheets .cache/emoji/sheets \
        --split train --output .cache/emoji/pictures/train --num-views 4
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from PIL import Image

from lavit_emoji.dataset.sources import Pictures
from lavit_hf.training.shards import write_shards


SCHEMA = pa.schema({"image": pa.binary(), "row": pa.int32(), "view": pa.int32()})


def to_png(image: Image.Image, size: int) -> bytes:
    """Resizes an image and encodes it as a PNG file."""
    file = io.BytesIO()
    image.resize((size, size), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def draw_rows(pictures: Pictures, rows: range, size: int) -> Iterator[dict]:
    """Yields the images of rows, ordered by row and view, as in `cache_features.py`."""
    for picture in pictures(rows):
        yield {"image": to_png(picture["image"], size), "row": picture["row"], "view": picture["view"]}


def main(
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    split: Annotated[str, typer.Option(help="Split to use.")],
    output: Annotated[Path, typer.Option(help="Folder for the shards.")],
    sheets: Annotated[Path | None, typer.Option(help="Output of prepare_sheets.py, to add its sheets.")] = None,
    num_views: Annotated[int, typer.Option(help="Number of views per drawing; the first is the drawing itself.")] = 1,
    size: Annotated[int, typer.Option(help="Image size in pixels.")] = 64,
) -> None:
    """Render a split and write parquet shards."""
    pictures = Pictures.load(data, split, num_views, sheets)
    write_shards(
        len(pictures),
        lambda rows: draw_rows(pictures, rows, size),
        output,
        SCHEMA,
        settings={"split": split, "num_views": num_views, "sheets": len(pictures.sheets), "size": size},
        rows_per_shard=128,
    )


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The views of each drawing whose features `cache_features.py` computes, as small pictures for the pixel decoder.

    accelerate launch examples/emoji/view_pictures.py --data .cache/emoji/set --split train \
        --output .cache/emoji/pictures/train --num-views 8
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from datasets import Dataset, load_from_disk
from PIL import Image
from views import views

from lavit_hf.training.shards import write_shards


SCHEMA = pa.schema({"image": pa.binary(), "row": pa.int32(), "view": pa.int32()})


def to_png(image: Image.Image, size: int) -> bytes:
    """The picture at another size, as a file."""
    file = io.BytesIO()
    image.resize((size, size), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def draw_rows(drawings: Dataset, rows: range, num_views: int, size: int) -> Iterator[dict]:
    """Views of rows, ordered by row and view as the features are."""
    for index, row in zip(rows, drawings.select(rows)):
        for view, image in enumerate(views(row, num_views, seed=index)):
            yield {"image": to_png(image, size), "row": index, "view": view}


def main(
    data: Annotated[Path, typer.Option(help="What prepare.py wrote.")],
    split: Annotated[str, typer.Option(help="Its split.")],
    output: Annotated[Path, typer.Option(help="Folder for the shards.")],
    num_views: Annotated[int, typer.Option(help="Views of each drawing; the first is the drawing as it is.")] = 1,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 64,
) -> None:
    """Draw a split and write parquet shards."""
    drawings = load_from_disk(data)[split]
    write_shards(
        len(drawings),
        lambda rows: draw_rows(drawings, rows, num_views, size),
        output,
        SCHEMA,
        settings={"split": split, "num_views": num_views, "size": size},
        rows_per_shard=128,
    )


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The frozen encoder's features of several views of each drawing, so that training never runs the encoder.

    accelerate launch examples/emoji/cache_features.py --data .cache/emoji/set --split train \
        --visual-tokenizer .cache/emoji/stage-0 --output .cache/emoji/features/train --num-views 8
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import torch
import typer
from datasets import Dataset, load_from_disk
from views import views

from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer
from lavit_hf.training.feature_rows import to_bytes
from lavit_hf.training.shards import write_shards


SCHEMA = pa.schema(
    {
        "features": pa.large_binary(),
        "row": pa.int32(),
        "view": pa.int32(),
        "name": pa.string(),
        "keywords": pa.list_(pa.string()),
        "category": pa.string(),
        "subcategory": pa.string(),
        "style": pa.string(),
    }
)
TEXT_COLUMNS = ("name", "keywords", "category", "subcategory", "style")


def encode_rows(
    drawings: Dataset,
    rows: range,
    visual_tokenizer: LaVITVisualTokenizer,
    image_processor: LaVITImageProcessor,
    num_views: int,
    batch_size: int,
) -> Iterator[dict]:
    """Encoded views of rows, ordered by row and view."""
    columns = [
        {"row": index, "view": view, "image": image, **{name: row[name] for name in TEXT_COLUMNS}}
        for index, row in zip(rows, drawings.select(rows))
        for view, image in enumerate(views(row, num_views, seed=index))
    ]
    for start in range(0, len(columns), batch_size):
        batch = columns[start : start + batch_size]
        images = [column.pop("image") for column in batch]
        pixel_values = image_processor(images, return_tensors="pt").pixel_values
        pixel_values = pixel_values.to(visual_tokenizer.device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(pixel_values.device.type, torch.bfloat16):
            features = visual_tokenizer.encode(pixel_values).last_hidden_state
        for column, image_features in zip(batch, features):
            yield {**column, "features": to_bytes(image_features)}


def main(
    data: Annotated[Path, typer.Option(help="What prepare.py wrote.")],
    split: Annotated[str, typer.Option(help="Its split.")],
    visual_tokenizer: Annotated[Path, typer.Option(help="What initialize.py wrote.")],
    output: Annotated[Path, typer.Option(help="Folder for the shards.")],
    num_views: Annotated[int, typer.Option(help="Views of each drawing; the first is the drawing as it is.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Pictures to encode at once.")] = 64,
) -> None:
    """Encode a split and write parquet shards."""
    drawings = load_from_disk(data)[split]
    image_processor = LaVITImageProcessor.from_pretrained(visual_tokenizer)
    model = LaVITVisualTokenizer.from_pretrained(visual_tokenizer).eval().to(memory_format=torch.channels_last)
    write_shards(
        len(drawings),
        lambda rows: encode_rows(drawings, rows, model, image_processor, num_views, batch_size),
        output,
        SCHEMA,
        settings={"split": split, "num_views": num_views},
        rows_per_shard=128,
    )


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Computes the frozen encoder's features of views of drawings and of sheets, so that training doesn't run the encoder.

    accelerate launch examples/emoji/cache_features.py --data .cache/emoji/set --sheets .cache/emoji/sheets \
        --split train --visual-tokenizer .cache/emoji/stage-0 --output .cache/emoji/features/train --num-views 4
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import torch
import typer

from lavit_emoji.dataset.sources import Pictures
from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer
from lavit_hf.evaluation.identity import digest_weights
from lavit_hf.fast_dtypes import fast_autocast
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
        "questions": pa.list_(pa.string()),
        "answers": pa.list_(pa.string()),
    }
)


def encode_rows(
    pictures: Pictures,
    rows: range,
    visual_tokenizer: LaVITVisualTokenizer,
    image_processor: LaVITImageProcessor,
    batch_size: int,
) -> Iterator[dict]:
    """Yields the encoded images of rows, ordered by row and view."""
    columns = list(pictures(rows))
    for start in range(0, len(columns), batch_size):
        batch = columns[start : start + batch_size]
        images = [column.pop("image") for column in batch]
        pixel_values = image_processor(images, return_tensors="pt").pixel_values
        pixel_values = pixel_values.to(visual_tokenizer.device, memory_format=torch.channels_last)
        with torch.inference_mode(), fast_autocast(pixel_values.device):
            features = visual_tokenizer.encode(pixel_values).last_hidden_state
        for column, image_features in zip(batch, features):
            yield {**column, "features": to_bytes(image_features)}


def main(
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    split: Annotated[str, typer.Option(help="Split to encode.")],
    visual_tokenizer: Annotated[Path, typer.Option(help="Output of initialize.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the shards.")],
    sheets: Annotated[Path | None, typer.Option(help="Output of prepare_sheets.py, to encode its sheets too.")] = None,
    num_views: Annotated[int, typer.Option(help="Number of views per drawing; the first is the drawing itself.")] = 1,
    concepts: Annotated[
        int | None, typer.Option(help="Use only drawings of this many everyday concepts, for short experiments.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Number of images per batch.")] = 64,
) -> None:
    """Encode a split and write parquet shards."""
    pictures = Pictures.load(data, split, num_views, sheets, concepts)
    image_processor = LaVITImageProcessor.from_pretrained(visual_tokenizer)
    model = LaVITVisualTokenizer.from_pretrained(visual_tokenizer).eval().to(memory_format=torch.channels_last)
    write_shards(
        len(pictures),
        lambda rows: encode_rows(pictures, rows, model, image_processor, batch_size),
        output,
        SCHEMA,
        settings={
            "split": split,
            "num_views": num_views,
            "sheets": len(pictures.sheets),
            "concepts": concepts,
            "visual_tokenizer": digest_weights(visual_tokenizer),
        },
        rows_per_shard=128,
    )


if __name__ == "__main__":
    typer.run(main)

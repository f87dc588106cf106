# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Reconstructs features from the codes of the images that LaVIT learns to write, and stores them with the images, so that
training the pixel decoder doesn't run the detokenizer.

    accelerate launch examples/emoji/rebuild_features.py --tokens .cache/emoji/tokens --split train \
        --pictures .cache/emoji/pictures --tokenizer .cache/emoji/visual-tokenizer --output .cache/emoji/rebuilt/train
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import torch
import typer

from lavit_emoji.measures.looking import batches
from lavit_hf import LaVITDetokenizer, LaVITVisualTokenizerForPreTraining
from lavit_hf.evaluation.identity import digest_weights
from lavit_hf.fast_dtypes import fast_autocast
from lavit_hf.training.data import load_split
from lavit_hf.training.feature_rows import to_bytes
from lavit_hf.training.pixel_data import PairedRows, check_pairs
from lavit_hf.training.records import read_record
from lavit_hf.training.shards import SETTINGS_NAME, write_shards


SCHEMA = pa.schema({"image": pa.binary(), "features": pa.large_binary(), "row": pa.int32(), "view": pa.int32()})


@torch.inference_mode()
def rebuild_rows(rows: PairedRows, numbers: range, detokenizer: LaVITDetokenizer, batch_size: int) -> Iterator[dict]:
    """Yields images with the features reconstructed from their codes."""
    for batch in batches([rows[number] for number in numbers], batch_size):
        codes = [torch.tensor(row["codes"], device=detokenizer.device) for row in batch]
        with fast_autocast(detokenizer.device):
            features = detokenizer(codes=codes).features
        for row, image_features in zip(batch, features):
            yield {name: row[name] for name in ("image", "row", "view")} | {"features": to_bytes(image_features)}


def load_written(tokens: Path, pictures: Path, split: str) -> PairedRows:
    """Pairs images that LaVIT learns to write with their codes."""
    rows, images = load_split(str(tokens), split), load_split(str(pictures), split)
    check_pairs(images, rows)
    written = np.flatnonzero(rows["written"][:])
    return PairedRows(images.select(written), rows.select_columns("codes").select(written))


def main(
    tokens: Annotated[Path, typer.Option(help="Output of pretokenize.py.")],
    pictures: Annotated[Path, typer.Option(help="Output of view_pictures.py, all splits.")],
    split: Annotated[str, typer.Option(help="Split to use.")],
    tokenizer: Annotated[Path, typer.Option(help="Output of train_visual_tokenizer.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the shards.")],
    batch_size: Annotated[int, typer.Option(help="Number of images per batch.")] = 64,
) -> None:
    """Reconstruct a split and write parquet shards."""
    rows = load_written(tokens, pictures, split)
    trained = LaVITVisualTokenizerForPreTraining.from_pretrained(tokenizer).eval()
    detokenizer = trained.detokenizer
    detokenizer.set_codebook(trained.visual_tokenizer.quantizer.codebook.weight)
    write_shards(
        len(rows),
        lambda numbers: rebuild_rows(rows, numbers, detokenizer, batch_size),
        output,
        SCHEMA,
        settings={
            "split": split,
            "tokenizer": digest_weights(tokenizer),
            "tokens": read_record(tokens / split / SETTINGS_NAME),
            "pictures": read_record(pictures / split / SETTINGS_NAME),
        },
    )


if __name__ == "__main__":
    typer.run(main)

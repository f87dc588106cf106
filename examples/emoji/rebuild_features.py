# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The features that the trained detokenizer rebuilds from codes, so that training the pixel decoder never runs it.

    accelerate launch examples/emoji/rebuild_features.py --tokens .cache/emoji/tokens --split train \
        --tokenizer .cache/emoji/visual-tokenizer --output .cache/emoji/rebuilt/train
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import torch
import typer
from datasets import Dataset

from lavit_hf import LaVITDetokenizer, LaVITVisualTokenizerForPreTraining
from lavit_hf.training.data import load_split
from lavit_hf.training.feature_rows import to_bytes
from lavit_hf.training.shards import write_shards


SCHEMA = pa.schema({"features": pa.large_binary(), "row": pa.int32(), "view": pa.int32()})


@torch.inference_mode()
def rebuild_rows(tokens: Dataset, rows: range, detokenizer: LaVITDetokenizer, batch_size: int) -> Iterator[dict]:
    """Rows with the features that are rebuilt from their codes."""
    for batch in tokens.select(rows).iter(batch_size):
        codes = [torch.tensor(image, device=detokenizer.device) for image in batch["codes"]]
        with torch.autocast(detokenizer.device.type, torch.bfloat16):
            features = detokenizer(codes=codes).features
        for row, view, image_features in zip(batch["row"], batch["view"], features):
            yield {"features": to_bytes(image_features), "row": row, "view": view}


def main(
    tokens: Annotated[Path, typer.Option(help="Output of pretokenize.py.")],
    split: Annotated[str, typer.Option(help="Split to use.")],
    tokenizer: Annotated[Path, typer.Option(help="Output of train_visual_tokenizer.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the shards.")],
    batch_size: Annotated[int, typer.Option(help="Number of images per batch.")] = 64,
) -> None:
    """Reconstruct a split and write parquet shards."""
    rows = load_split(str(tokens), split)
    trained = LaVITVisualTokenizerForPreTraining.from_pretrained(tokenizer).eval()
    detokenizer = trained.detokenizer
    detokenizer.set_codebook(trained.visual_tokenizer.quantizer.codebook.weight)
    write_shards(
        len(rows),
        lambda numbers: rebuild_rows(rows, numbers, detokenizer, batch_size),
        output,
        SCHEMA,
        settings={"split": split},
    )


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Features that are rebuilt from codes are not taken for those of another tokenizer or of other codes."""

import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import torch


pytest.importorskip("datasets")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "emoji"))
pytest.importorskip("vector_quantize_pytorch")

import rebuild_features
from lavit_hf import LaVITVisualTokenizerForPreTraining
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.shards import read_shards, write_shards
from training_runs import write_tokenizer


PLACES = {"row": pa.int32(), "view": pa.int32()}
TOKENS = pa.schema({"codes": pa.list_(pa.int32()), "written": pa.bool_(), **PLACES})
PICTURES = pa.schema({"image": pa.binary(), **PLACES})


def write_parts(folder: Path, codebook: str) -> None:
    """Two images and their codes, one of which is to be written."""
    rows = [
        {"codes": [1, 2], "written": bool(number), "image": b"png", "row": number, "view": 0} for number in range(2)
    ]
    for name, schema in {"tokens": TOKENS, "pictures": PICTURES}.items():
        columns = [{key: row[key] for key in schema.names} for row in rows]
        write_shards(2, partial(map, columns.__getitem__), folder / name / "train", schema, {"codebook": codebook})


def test_other_tokenizers_and_codes_are_refused(tmp_path):
    write_parts(tmp_path / "one", "first")
    write_parts(tmp_path / "two", "second")
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    output = tmp_path / "rebuilt" / "train"

    def rebuild(parts: str) -> int:
        folder = tmp_path / parts
        rebuild_features.main(folder / "tokens", folder / "pictures", "train", tokenizer, output)
        return len(read_shards(output))

    assert rebuild("one") == rebuild("one") == 1
    with pytest.raises(TrainingError, match=r"made with other settings \(pictures, tokens changed\)"):
        rebuild("two")
    model = LaVITVisualTokenizerForPreTraining.from_pretrained(tokenizer)
    with torch.no_grad():
        next(model.detokenizer.parameters()).add_(1)
    model.save_pretrained(tokenizer)
    with pytest.raises(TrainingError, match=r"made with other settings \(tokenizer changed\)"):
        rebuild("one")

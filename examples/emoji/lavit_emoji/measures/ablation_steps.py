# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Code shared by the ablation steps that measure: writing figures, and reading features in batches."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from datasets import Dataset

from lavit_hf.ablation.running import FIGURES_NAME
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.training.feature_rows import from_bytes


BATCH_SIZE = 64


def write_figures(figures: Mapping[str, float], folder: str | Path) -> None:
    """Writes the figures for `lavit ablate`, and prints them."""
    text = json.dumps(figures, indent=2)
    with atomic_file(Path(folder) / FIGURES_NAME) as file:
        file.write_text(text + "\n")
    print(text)


def batched_features(rows: Dataset, feature_size: int, batch_size: int = BATCH_SIZE) -> Iterator[torch.Tensor]:
    """Features from `cache_features.py`, `(batch_size, num_patches, feature_size)`, in fp32."""
    for batch in rows.select_columns("features").iter(batch_size):
        yield torch.stack([from_bytes(row, feature_size) for row in batch["features"]]).float()

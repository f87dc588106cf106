# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/training.py times can be trained."""

import pytest

from benchmark_scripts import load_benchmark


pytest.importorskip("vector_quantize_pytorch")


def test_language_model_learns_from_merged_rows():
    training = load_benchmark("training")
    model = training.build_language_model(heads=1, layers=1)
    batch = {name: tensor.to(model.device) for name, tensor in training.language_batch(model, num_pairs=1).items()}
    model.train()(**batch).loss.backward()
    assert model.understanding.projection.weight.grad.abs().sum() > 0

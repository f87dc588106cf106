# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/roofline.py counts, against the tensors of models."""

import math

import pytest
import torch
from torch import nn

from benchmark_scripts import load_benchmark
from lavit_hf import LaVITConfig


@pytest.fixture(scope="module")
def roofline():
    return load_benchmark("roofline")


@pytest.fixture
def reader(roofline, converted):
    return roofline.ReadingModel(config=LaVITConfig.from_pretrained(converted))


@pytest.fixture
def stages(roofline, reader):
    return {stage.name: stage for stage in roofline.reading_stages(reader)}


def bytes_of(*modules) -> int:
    return sum(2 * weight.numel() for module in modules for weight in module.parameters())


def find_linears(*modules) -> list[nn.Linear]:
    return [part for module in modules for part in module.modules() if isinstance(part, nn.Linear)]


class TestCounts:
    def test_bytes_are_the_weights_and_the_cache(self, reader, stages):
        model, text = reader.model, reader.config.text_config
        decoder = bytes_of(model.language_model.layers, model.language_model.norm, model.lm_head)
        assert stages["encoder"].bytes["16 bits"] == bytes_of(model.visual_tokenizer.encoder)
        prompt = next(name for name in stages if name.startswith("prompt of"))
        assert stages[prompt].bytes["16 bits"] == decoder
        cache = 2 * 2 * text.num_hidden_layers * text.hidden_size * int(prompt.rpartition(" ")[2])
        assert stages["a token of text"].bytes["16 bits"] == decoder + cache
        assert stages["an image id, guided"].bytes["16 bits"] == decoder + 2 * cache

    def test_fewer_bits_are_those_of_the_language_models_layers(self, reader, stages):
        token, layers = stages["a token of text"].bytes, find_linears(reader.model.language_model)
        numbers = sum(layer.weight.numel() for layer in layers)
        scales = sum(layer.out_features for layer in layers)
        assert token["16 bits"] - token["8 bits"] == pytest.approx(numbers - 4 * scales)
        assert token["16 bits"] - token["4 bits"] == pytest.approx(numbers * (1.5 - 4 / 64))
        assert len(set(stages["encoder"].bytes.values())) == 1

    def test_operations_of_a_token(self, reader, stages):
        text, model = reader.config.text_config, reader.model
        filled = int(next(name for name in stages if name.startswith("prompt of")).rpartition(" ")[2])
        linear = sum(2 * layer.weight.numel() for layer in find_linears(model.language_model, model.lm_head))
        attention = 4 * text.num_hidden_layers * text.hidden_size * (filled + 1)
        assert stages["a token of text"].operations == linear + attention
        assert stages["an image id, guided"].operations == 2 * (linear + attention)


def test_time_allowed_is_that_of_what_takes_longer(roofline):
    card = roofline.Card(bandwidth=100.0, matmul_rate=1000.0)
    assert card.least_seconds(num_bytes=50, operations=100) == 0.5
    assert card.least_seconds(num_bytes=50, operations=2000) == 2.0


@pytest.mark.slow
def test_release_on_paper(roofline):
    """A token of a 7B in 16 bits: its weights without the embeddings, and two operations for each."""
    stages = {stage.name: stage for stage in roofline.all_stages()}
    token = stages["a token of text"]
    assert token.bytes["16 bits"] == pytest.approx(13.4e9, rel=0.01)
    assert token.operations == pytest.approx(token.bytes["16 bits"], rel=0.01)
    assert token.least_seconds(roofline.CARDS["A100"], "16 bits") == pytest.approx(13.4e9 / 2.039e12, rel=0.01)
    painting = stages["a step of the U-Net, guided"]
    assert painting.bytes["16 bits"] == pytest.approx(2 * 2.567e9, rel=0.01)


def test_measured_shares(roofline, converted, stages):
    reader = roofline.ReadingModel(device="cpu", config=LaVITConfig.from_pretrained(converted))
    rows = roofline.measure(reader, list(stages.values()), roofline.Card(1e9, 1e12), repeats=1)
    assert [row[0] for row in rows] == list(stages)
    for _, milliseconds, least, share in rows:
        assert math.isclose(float(least) / float(milliseconds), float(share.rstrip("%")) / 100, abs_tol=0.05)
    assert torch.get_default_dtype() == torch.float32

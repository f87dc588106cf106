# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Blip2VisionConfig

from hub_client import OWNER, USERS, connect_to_hub, publish
from lavit_hf import LaVITVisualTokenizer, LaVITVisualTokenizerConfig
from lavit_hf.conversion import convert_checkpoint
from loopback_hub import LoopbackHub
from transformers_suite import MARKS


def pytest_configure(config) -> None:
    torch.set_num_threads(1)  # two workers share two cores
    for mark in MARKS:
        config.addinivalue_line("markers", f"{mark}: set by transformers' common tests")


@dataclass
class Golden:
    """A small LaVIT in the original's layout and what the released implementation gives for it."""

    root: Path
    facts: dict
    tensors: dict[str, torch.Tensor]

    @property
    def original(self) -> Path:
        return self.root / "original"

    @property
    def image_paths(self) -> list[Path]:
        return [self.root / "images" / name for name in self.facts["images"]]


@pytest.fixture(scope="session")
def golden() -> Golden:
    root = Path(__file__).parent / "golden"
    return Golden(root, json.loads((root / "golden.json").read_text()), load_file(root / "golden.safetensors"))


@pytest.fixture(scope="session")
def converted(golden: Golden, tmp_path_factory) -> Path:
    """The golden checkpoint as `lavit convert` makes it."""
    return convert_checkpoint(
        golden.original, tmp_path_factory.mktemp("converted") / "lavit", golden.facts["dims"]["heads"]
    )


@pytest.fixture(scope="session")
def repos(golden: Golden, tmp_path_factory) -> dict[str, Path]:
    """The golden checkpoint with each of its pixel decoders. Not to be changed."""
    folder, heads = tmp_path_factory.mktemp("repos"), golden.facts["dims"]["heads"]
    return {
        name: convert_checkpoint(golden.original, folder / name, heads, pixel_decoder=name)
        for name in ("highres", "lowres")
    }


def tiny_visual_config(initializer_range: float = 0.2, **kwargs) -> LaVITVisualTokenizerConfig:
    """A visual tokenizer of 16 patches that is built in milliseconds, with weights that make a difference."""
    encoder_config = Blip2VisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        initializer_range=initializer_range,
    )
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return LaVITVisualTokenizerConfig(
        **{"encoder_config": encoder_config, "codebook_size": 24, "codebook_dim": 8, **sizes, **kwargs},
        initializer_range=initializer_range,
    )


@pytest.fixture
def tiny_tokenizer():
    """Builds a tiny visual tokenizer with the given settings, always with the same weights."""

    def build(**kwargs) -> LaVITVisualTokenizer:
        torch.manual_seed(0)
        return LaVITVisualTokenizer(tiny_visual_config(**kwargs)).eval()

    return build


@pytest.fixture(scope="session")
def hub():
    """A Hub for this test run."""
    with LoopbackHub(USERS) as hub:
        yield hub


@pytest.fixture
def reader(hub, monkeypatch, tmp_path_factory):
    """The Hub from a machine with an empty cache, whose user is not logged in."""
    connect_to_hub(monkeypatch, hub, None, tmp_path_factory.mktemp("cache"))
    return hub


@pytest.fixture
def owner(hub, monkeypatch, tmp_path_factory):
    """The Hub from a machine with an empty cache, whose user may write in `org`."""
    connect_to_hub(monkeypatch, hub, OWNER, tmp_path_factory.mktemp("cache"))
    return hub


@pytest.fixture(scope="session")
def published(hub, repos) -> str:
    """The id of a repo that holds a whole LaVIT. Not to be changed."""
    return publish(hub, "org/lavit", repos["lowres"])

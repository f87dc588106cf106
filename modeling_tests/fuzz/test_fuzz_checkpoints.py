# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Spoilt checkpoints: they convert or load, or one error names the file, and nothing is written."""

import io
import random
import shutil
import warnings

import pytest
import torch
from hypothesis import given
from safetensors.torch import load, save

from fuzzing import SpoiltFolder, check_rule, limited, seeds, spoil_bytes, spoil_json
from lavit_hf import LaVITForCausalLM, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.conversion import ConversionError, convert_checkpoint


@pytest.fixture(scope="module")
def original(golden, tmp_path_factory) -> SpoiltFolder:
    return SpoiltFolder(golden.original, tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def repo(golden, tmp_path_factory) -> SpoiltFolder:
    folder = tmp_path_factory.mktemp("repo")
    heads = golden.facts["dims"]["heads"]
    return SpoiltFolder(convert_checkpoint(golden.original, folder / "lavit", heads, max_shard_size="1MB"), folder)


def spoil_tensor(tensor: torch.Tensor, rng: random.Random) -> object:
    """Another dtype, layout, shape or content; or no tensor."""
    changes = [
        lambda: torch.full_like(tensor, float("nan")),
        lambda: torch.full_like(tensor, float("inf")),
        lambda: tensor.to_sparse(),
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: tensor.to(rng.choice([torch.int8, torch.int64, torch.bool, torch.complex64, torch.float64])),
        lambda: tensor.to(torch.float8_e4m3fn),
        lambda: tensor.to("meta"),
        lambda: tensor[None],
        lambda: tensor.flatten(),
        lambda: tensor[:0],
        lambda: tensor.sum(),
        lambda: tensor.transpose(0, -1),
        lambda: tensor.flatten()[:1].expand(2**20, 2**20),
        lambda: torch.cat([tensor, tensor]),
        lambda: {"weight": tensor},
        lambda: rng.choice([None, 5, "text", [tensor]]),
    ]
    return rng.choice(changes)()


def spoil_pickle(content: bytes, rng: random.Random) -> bytes:
    """A tensor, a name, or the bytes."""
    kind = rng.choice(["tensor", "tensor", "tensor", "remove", "rename", "bytes", "whole"])
    if kind == "bytes":
        return spoil_bytes(content, rng)
    tensors = torch.load(io.BytesIO(content), weights_only=True)
    if isinstance(tensors, torch.Tensor) or kind == "whole":
        tensors = spoil_tensor(torch.zeros(2, 3), rng)
    else:
        _spoil_entry(tensors, kind, rng, names=["", 5, ("a", 1), "x" * 5000, "\ud800", "blocks.9999999.norm1.weight"])
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()


def spoil_safetensors(content: bytes, rng: random.Random) -> bytes:
    """A tensor, a name, or the bytes of which the first are the header."""
    kind = rng.choice(["tensor", "tensor", "remove", "rename", "bytes", "header"])
    if kind == "header":
        return spoil_bytes(content[:500], rng) + content[500:]
    if kind == "bytes":
        return spoil_bytes(content, rng)
    tensors = load(content)
    _spoil_entry(tensors, kind, rng, names=["", "x" * 5000, "model.layers.9999999.weight"])
    dense = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    try:
        return save({name: tensor.contiguous() for name, tensor in dense.items()}, metadata={"format": "pt"})
    except (ValueError, RuntimeError, NotImplementedError, KeyError):  # a form that safetensors has no place for
        return spoil_bytes(content, rng)


def _spoil_entry(tensors: dict, kind: str, rng: random.Random, names: list) -> None:
    name = rng.choice(list(tensors))
    if kind == "tensor":
        tensors[name] = spoil_tensor(tensors[name], rng)
        return
    tensor = tensors.pop(name)
    if kind == "rename":
        tensors[rng.choice(names)] = tensor


SPOILERS = {".json": spoil_json, ".bin": spoil_pickle, ".safetensors": spoil_safetensors}


def spoil(folder: SpoiltFolder, names: list[str], rng: random.Random) -> str:
    """Spoils one file, and says which."""
    name = rng.choice(names)
    path = folder.renew() / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder.replace(name, SPOILERS.get(path.suffix, spoil_bytes)(path.read_bytes(), rng))
    return name


VISUAL_FILES = ["eva_vitg_psz14.bin", "tokenizer_encoder.bin"]
LANGUAGE_FILES = ["config.json", "pytorch_model.bin.index.json", "visual_weight.bin", "tokenizer.model"]
PARTS = {
    "none": [
        *(f"visual_tokenizer/{name}" for name in VISUAL_FILES),
        *(f"language_model/{name}" for name in LANGUAGE_FILES),
        "language_model/pytorch_model-00002-of-00003.bin",
    ],
    "highres": [
        *("scheduler/scheduler_config.json", "unet/config.json", "vae/config.json"),
        *("unet/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.safetensors"),
    ],
    "lowres": [
        *(
            "feature_extractor/preprocessor_config.json",
            "safety_checker/config.json",
            "scheduler/scheduler_config.json",
        ),
        *("uncond_embeddings.bin", "unet/config.json", "vae/config.json"),
    ],
}
FOLDERS = {"none": "", "highres": "highres_pixel_decoding/", "lowres": "pixel_decoding/"}


@limited(short=6, share=0.04)
@given(rng=seeds)
def test_conversion(original, rng):
    decoder = rng.choice(["none", "none", "highres", "lowres"])
    spoil(original, [FOLDERS[decoder] + name for name in PARTS[decoder]], rng)
    parent = original.path.parent
    destination = parent / "lavit"
    shutil.rmtree(destination, ignore_errors=True)
    made = check_rule(
        lambda: convert_checkpoint(original.path, destination, 4, pixel_decoder=decoder), (ConversionError,)
    )
    assert {path.name for path in parent.iterdir()} == ({"whole", "spoilt", "lavit"} if made else {"whole", "spoilt"})


LOADERS = {
    LaVITForCausalLM: ["config.json", "generation_config.json", "model.safetensors.index.json"],
    LaVITVisualTokenizer: ["config.json", "visual_tokenizer.safetensors.index.json"],
    LaVITProcessor: ["tokenizer.json", "tokenizer_config.json", "processor_config.json"],
}


@limited(short=6, share=0.06)
@given(rng=seeds)
def test_loading(repo, rng):
    loader = rng.choice(list(LOADERS))
    shards = [path.name for path in sorted(repo.original.glob("model-*.safetensors"))]
    names = LOADERS[loader] + ([] if loader is LaVITProcessor else [rng.choice(shards)])
    spoil(repo, names, rng)
    before = sorted(repo.path.parent.rglob("*"))
    check_rule(lambda: loader.from_pretrained(repo.path), (ValueError, OSError), str(repo.path))
    assert sorted(repo.path.parent.rglob("*")) == before

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Writes checkpoints with random weights in the original layout at LaVIT-7B's size, one shard at a time."""

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards

from lavit_hf import LaVITConfig
from lavit_hf.conversion.layout import (
    ENCODER,
    LANGUAGE_MODEL,
    PIXEL_DECODERS,
    TOKENIZER,
    UNDERSTANDING,
)
from lavit_hf.conversion.pixel_decoder import MODEL_CLASSES, empty_model


ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "modeling_tests" / "golden"
HUB_CONFIGS = ROOT / "hub_configs"
RELEASE = HUB_CONFIGS / "LaVIT-7B-v2"
PIXEL_DECODER_CONFIGS = HUB_CONFIGS / "pixel_decoders"

LANGUAGE_MODEL_FILE = f"{LANGUAGE_MODEL.path}/{LANGUAGE_MODEL.names[-1]}"
VISUAL_FILES = (ENCODER.path, TOKENIZER.path, UNDERSTANDING.path)
UNDIVIDED_FILES = (*VISUAL_FILES, *(decoder.detokenizer.path for decoder in PIXEL_DECODERS.values()))
MAX_SHARD_BYTES = 10**9
STD = 0.02  # of the weights, small enough that no layer overflows in 16 bits

Shapes = Mapping[str, Sequence[int]]


def plan_original(layers: int | None = None, pixel_decoders: Sequence[str] = ()) -> dict[str, Shapes]:
    """
    Lists the tensors of the checkpoint.

    Args:
        layers (`int`, *optional*):
            Number of language model blocks; that of the release by default.
        pixel_decoders (`Sequence[str]`, *optional*):
            `"highres"`, `"lowres"` or both.

    Returns:
        `dict[str, Shapes]`: For each weight file, the shapes of its tensors.
    """
    layout = read_layout()
    files = {file: layout[file] for file in VISUAL_FILES}
    files[LANGUAGE_MODEL_FILE] = {
        name: shape
        for name, shape in layout[LANGUAGE_MODEL_FILE].items()
        if layers is None or _llama_layer(name) < layers
    }
    for resolution in pixel_decoders:
        decoder = PIXEL_DECODERS[resolution]
        files[decoder.detokenizer.path] = layout[decoder.detokenizer.path]
        for component in decoder.models:
            model = empty_model(PIXEL_DECODER_CONFIGS / resolution / component, MODEL_CLASSES[component])
            weights = decoder.model_files(component)
            shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
            files[f"{weights.path}/{weights.names[-1]}"] = shapes
        if decoder.negative_embeds is not None:
            files[f"{decoder.folder}/{decoder.negative_embeds}"] = _negative_embeds(resolution)
    return files


def read_layout() -> dict[str, Shapes]:
    """The names and shapes of the tensors in the release's files, except for those of the diffusion models."""
    return json.loads((GOLDEN / "layout_7b.json").read_text())


def count_values(files: Mapping[str, Shapes]) -> int:
    """Total number of values in the tensors of a plan."""
    return sum(math.prod(shape) for shapes in files.values() for shape in shapes.values())


def write_original(
    folder: Path,
    layers: int | None = None,
    dtype: torch.dtype = torch.float16,
    pixel_decoders: Sequence[str] = (),
) -> int:
    """
    Writes the checkpoint.

    Args:
        folder (`Path`):
            Folder to write to.
        layers (`int`, *optional*):
            Number of language model blocks; that of the release by default.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float16`):
            Dtype of the weights.
        pixel_decoders (`Sequence[str]`, *optional*):
            `"highres"`, `"lowres"` or both.

    Returns:
        `int`: Total size of the weight files, in bytes.
    """
    for file, shapes in plan_original(layers, pixel_decoders).items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if list(shapes) == [""]:
            torch.save(_noise("", shapes[""], dtype), path)
        elif file in UNDIVIDED_FILES:
            torch.save({name: _noise(name, shape, dtype) for name, shape in shapes.items()}, path)
        else:
            _write_shards(path, shapes, dtype)
    _write_configs(folder, layers, pixel_decoders)
    return sum(path.stat().st_size for path in folder.rglob("*.bin"))


def _write_configs(folder: Path, layers: int | None, pixel_decoders: Sequence[str]) -> None:
    text_config = LaVITConfig.from_pretrained(RELEASE).text_config
    text_config.num_hidden_layers = layers or text_config.num_hidden_layers
    text_config.save_pretrained(folder / LANGUAGE_MODEL.path)
    shutil.copy(GOLDEN / "original" / LANGUAGE_MODEL.path / "tokenizer.model", folder / LANGUAGE_MODEL.path)
    for resolution in pixel_decoders:
        configs = PIXEL_DECODER_CONFIGS / resolution
        # The detokenizer's is skipped, because original checkpoints have none.
        for path in configs.glob("*/*.json"):
            if path.parent.name != "detokenizer":
                target = folder / PIXEL_DECODERS[resolution].folder / path.relative_to(configs)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def _write_shards(path: Path, shapes: Shapes, dtype: torch.dtype) -> None:
    specs = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}
    pattern = f"{path.stem}{{suffix}}{path.suffix}"
    split = split_torch_state_dict_into_shards(specs, filename_pattern=pattern, max_shard_size=MAX_SHARD_BYTES)
    for shard, names in split.filename_to_tensors.items():
        torch.save({name: _noise(name, shapes[name], dtype) for name in names}, path.parent / shard)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        path.with_name(f"{path.name}.index.json").write_text(json.dumps(index))


def _noise(name: str, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    if len(shape) == 1 and name.endswith("weight"):
        return torch.ones(shape, dtype=dtype)  # of a norm
    return torch.empty(shape).normal_(std=STD).to(dtype)


def _llama_layer(name: str) -> int:
    match = re.match(r"model\.layers\.(\d+)\.", name)
    return int(match[1]) if match else -1


def _negative_embeds(resolution: str) -> Shapes:
    config = json.loads((PIXEL_DECODER_CONFIGS / resolution / "detokenizer" / "config.json").read_text())
    return {"": (1, config["num_negative_embeds"], sum(config["cross_attention_dims"]))}  # one bare tensor

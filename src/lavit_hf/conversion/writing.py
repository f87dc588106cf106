# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Writes the weights of a converted checkpoint, one shard at a time."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from .errors import ConversionError
from .plan import LazyTensor


def write_shards(
    plan: Mapping[str, LazyTensor],
    specs: Mapping[str, torch.Tensor],
    folder: Path,
    max_shard_size: str,
    dtype: torch.dtype | None,
    weights_name: str = SAFE_WEIGHTS_NAME,
    allow_nan: bool = False,
) -> None:
    """
    Writes the planned tensors as safetensors, with an index if there is more than one file.

    Args:
        plan (`Mapping[str, LazyTensor]`):
            How to create each tensor.
        specs (`Mapping[str, torch.Tensor]`):
            Shapes and dtypes of the same tensors, on the meta device.
        folder (`Path`):
            Where to write.
        max_shard_size (`str`):
            Maximum size of a file, such as `"1GB"`, which is also the maximum in memory at a time.
        dtype (`torch.dtype`, *optional*):
            Dtype to cast floating-point tensors to. By default, they aren't cast.
        weights_name (`str`, *optional*, defaults to `"model.safetensors"`):
            Name of the weight file in the library that loads it.
        allow_nan (`bool`, *optional*, defaults to `False`):
            Whether to allow NaN or infinite weights.

    Raises:
        ConversionError: If weights are NaN or infinite, before or after the cast.
        OSError: If a file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    split = split_torch_state_dict_into_shards(
        {name: _cast(spec, dtype) for name, spec in specs.items()},
        filename_pattern=weights_name.replace(".safetensors", "{suffix}.safetensors"),
        max_shard_size=max_shard_size,
    )
    for file, names in logging.tqdm(split.filename_to_tensors.items(), desc="Writing shards"):
        tensors = _make_shard(plan, names, dtype)
        if not allow_nan:
            _check_finite(tensors)
        try:
            save_file(tensors, folder / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{folder / file} cannot be written: {error}") from error
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / f"{weights_name}.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _make_shard(
    plan: Mapping[str, LazyTensor], names: list[str], dtype: torch.dtype | None
) -> dict[str, torch.Tensor]:
    tensors = {name: _cast(plan[name](), dtype) for name in names}
    storages = {name: tensor.untyped_storage().data_ptr() for name, tensor in tensors.items()}
    sharing = Counter(storages.values())
    # Parts of a matrix share memory, which safetensors refuses, like tensors that aren't contiguous. These are copied;
    # all others are written directly from the memory map.
    return {
        name: tensor
        if tensor.is_contiguous() and sharing[storages[name]] == 1
        else tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        # A single pass without a copy: if a tensor contains NaN, both of its bounds are NaN.
        if tensor.is_floating_point() and tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise ConversionError(
                f"{name} has NaN or infinite weights in {tensor.dtype}: the checkpoint is damaged, or its numbers "
                "are too large for the dtype. Pass --allow-nan to write them anyway."
            )


def _cast(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reads the original's weight files without running code in them and without loading them into memory."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from safetensors.torch import load_file

from ..lavit.untrusted_files import describe_error, is_inside, read_json, read_weight_map
from .errors import ConversionError, conversion_errors


WEIGHTS_ENDINGS = (".bin", ".safetensors")

# Start of the small text that git puts in place of a large file until Git LFS downloads it.
LFS_POINTER = b"version https://git-lfs.github.com/"

# Dtypes of weights. Tensors that only count something are integers.
WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Larger than any size in a config of LaVIT. Libraries create lists with the length of some sizes.
MAX_CONFIG_NUMBER = 2**20


def check_links(folder: Path) -> None:
    """
    Refuses checkpoints with symbolic links to files outside their folder.

    Args:
        folder (`Path`):
            The original's top folder.

    Raises:
        ConversionError: If there is such a link. Links within the Hub's cache are allowed.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            if path.is_symlink() and not is_inside(path, folder):
                raise ConversionError(
                    f"{path} is a symbolic link out of {folder}. Copy the file there if you trust its source."
                )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """
    Opens a weight file, a pickle (`.bin`) or safetensors, as a memory map.

    Args:
        path (`Path`):
            The file, or an index (`.index.json`) of shards.

    Returns:
        `dict[str, torch.Tensor]`: The file's tensors by name.

    Raises:
        ConversionError: If the file is missing, truncated, compressed or tries to run code, if it contains tensors
            that can't be weights (sparse, quantized, complex or larger than the file), or if shards contain the same
            tensor.
    """
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    tensors = _load(path)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in tensors.items()
    ):
        raise ConversionError(
            f"{path} does not hold a dictionary of tensors, so it is not a file of a LaVIT checkpoint."
        )
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor)
    return tensors


def _read_shards(index: Path) -> dict[str, torch.Tensor]:
    places: dict[str, str] = {}
    tensors: dict[str, torch.Tensor] = {}
    for shard in _shards(index):
        for name, tensor in read_tensors(index.parent / shard).items():
            if name in tensors:
                raise ConversionError(
                    f"{index.parent} holds {name} twice, in {places[name]} and {shard}. Are they shards of two models?"
                )
            tensors[name], places[name] = tensor, shard
    return tensors


def read_tensor(path: Path) -> torch.Tensor:
    """
    Opens a `.bin` file that contains a single tensor.

    Args:
        path (`Path`):
            The file.

    Raises:
        ConversionError: If the file is missing, truncated, compressed, tries to run code, or contains something else.
    """
    tensor = _load(path)
    if not isinstance(tensor, torch.Tensor):
        raise ConversionError(f"{path} does not hold a tensor, so it is not a file of a LaVIT checkpoint.")
    _check_tensor(path, "its tensor", tensor)
    return tensor


def check_config(path: Path) -> None:
    """
    Checks a config before a library reads it.

    Args:
        path (`Path`):
            The file.

    Raises:
        ConversionError: If the file is missing, isn't a JSON object, or contains a number that is too large for a
        size.
    """
    check_is_file(path)
    with conversion_errors(f"{path} cannot be read."):
        remaining = [read_json(path)]
    while remaining:
        value = remaining.pop()
        if isinstance(value, int) and abs(value) > MAX_CONFIG_NUMBER:
            raise ConversionError(f"{path} has a number above {MAX_CONFIG_NUMBER}, which is no size of a LaVIT model.")
        if isinstance(value, dict | list):
            remaining += value.values() if isinstance(value, dict) else value


def find_weights(folder: Path, names: Sequence[str]) -> Path:
    """
    Finds the weight file in a folder.

    Args:
        folder (`Path`):
            The folder.
        names (`Sequence[str]`):
            Possible file names, in order of preference. Each can also be an index of shards.

    Raises:
        ConversionError: If there is no such file.
    """
    candidates = [candidate for name in names for candidate in (name, f"{name}.index.json")]
    for candidate in candidates:
        if (folder / candidate).is_file():
            return folder / candidate
    raise ConversionError(f"{folder} has no weights: it needs one of {', '.join(candidates)}.")


def _shards(index: Path) -> list[str]:
    with conversion_errors(f"{index} cannot be read."):
        shards = sorted(set(read_weight_map(index).values()))
    for shard in shards:
        if not shard.endswith(WEIGHTS_ENDINGS):
            raise ConversionError(f"{index} names {shard!r}, which is not a weights file (.bin or .safetensors).")
    return shards


def _check_tensor(path: Path, name: str, tensor: torch.Tensor) -> None:
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter) and not (tensor.is_quantized or tensor.is_nested)
    if not plain or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        kind = "quantized" if tensor.is_quantized else f"{tensor.layout}, {tensor.device.type}"
        raise ConversionError(f"{path} holds {name} in a special format ({kind}). Save it as a dense tensor first.")
    if tensor.is_complex() or (tensor.is_floating_point() and tensor.dtype not in WEIGHT_DTYPES):
        raise ConversionError(f"{path} holds {name} in {tensor.dtype}, which LaVIT's weights do not use.")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ConversionError(f"{path} holds {name} with shape {tuple(tensor.shape)}, but not that many values.")


def check_is_file(path: Path) -> None:
    """Raises a [`ConversionError`] if a file is missing, or only stands for one that Git LFS has not downloaded."""
    if not path.is_file():
        raise ConversionError(f"{path} is missing. Download the original checkpoint again, or pass its root folder.")
    with open(path, "rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ConversionError(f"{path} is a pointer of Git LFS, not the file itself. Run `git lfs pull` there.")


def _load(path: Path) -> object:
    check_is_file(path)
    if path.suffix != ".safetensors" and _is_legacy_pickle(path):
        raise ConversionError(
            f"{path} is a pickle from before PyTorch 1.6, which cannot be memory-mapped. If you trust it, load it "
            "with PyTorch and save it again."
        )
    with conversion_errors(f"{path} cannot be read and is probably truncated. Download it again."):
        try:
            if path.suffix == ".safetensors":
                return load_file(path)
            _check_uncompressed(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise ConversionError(
                f"{path} holds more than tensors and was not opened, since a pickle can run code. If you trust its "
                f"source, save its tensors again with safetensors. ({describe_error(error)})"
            ) from error


def _check_uncompressed(path: Path) -> None:
    """
    Refuses a pickle whose records are compressed, which torch never writes. Memory-mapped, the compressed bytes would
    pass for weights, and a small file could hold a pickle of any size.
    """
    try:
        with ZipFile(path) as archive:
            is_compressed = any(record.compress_type != ZIP_STORED for record in archive.infolist())
    except BadZipFile:  # torch says what is wrong
        return
    if is_compressed:
        raise ConversionError(f"{path} is compressed. Load it with PyTorch and save it again if you trust its source.")


def _is_legacy_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x80\x02"

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reading the original's weight files without running what they hold and without filling the memory."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from .errors import ConversionError


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """
    Opens a weight file, a pickle (`.bin`) or safetensors, mapped into memory rather than read.

    Args:
        path (`Path`):
            The file, or an index (`.index.json`) of shards.

    Returns:
        `dict[str, torch.Tensor]`: the file's tensors by name.

    Raises:
        ConversionError: If the file is missing, truncated, or wants to run code.
    """
    if path.name.endswith(".index.json"):
        shards = _shards(path)
        return {name: tensor for shard in shards for name, tensor in read_tensors(path.parent / shard).items()}
    _check_is_file(path)
    tensors = _load(path)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ConversionError(f"{path} does not hold a dictionary of tensors: it is not a file of a LaVIT checkpoint.")
    return tensors


def read_tensor(path: Path) -> torch.Tensor:
    """
    Opens a `.bin` file that is one bare tensor.

    Args:
        path (`Path`):
            The file.

    Raises:
        ConversionError: If the file is missing, truncated, wants to run code, or is something else.
    """
    _check_is_file(path)
    tensor = _load(path)
    if not isinstance(tensor, torch.Tensor):
        raise ConversionError(f"{path} does not hold a tensor: it is not a file of a LaVIT checkpoint.")
    return tensor


def find_weights(folder: Path, names: Sequence[str]) -> Path:
    """
    The file of weights in a folder.

    Args:
        folder (`Path`):
            Where to look.
        names (`Sequence[str]`):
            What the file may be called, the better form first; each may also be an index of shards.

    Raises:
        ConversionError: If there is none.
    """
    candidates = [candidate for name in names for candidate in (name, f"{name}.index.json")]
    for candidate in candidates:
        if (folder / candidate).is_file():
            return folder / candidate
    raise ConversionError(f"{folder} holds no weights: one of {', '.join(candidates)} is needed.")


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise ConversionError(f"{index} is no index of shards, or truncated: download it again.") from error


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise ConversionError(f"{path} is missing: download the original checkpoint again or point at its top folder.")


def _load(path: Path) -> object:
    if path.suffix != ".safetensors" and _is_legacy_pickle(path):
        raise ConversionError(
            f"{path} is a pickle of PyTorch's form before 1.6, which cannot be mapped into memory: load it with a "
            "PyTorch you trust it to and save it again."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ConversionError(
            f"{path} holds more than tensors and was not opened, since a pickle can run code. "
            f"If it comes from a source you trust, save its tensors again with safetensors. ({_first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, SafetensorError, ValueError) as error:
        raise ConversionError(
            f"{path} cannot be read; it is probably truncated: download it again. ({_first_line(error)})"
        ) from error


def _is_legacy_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x80\x02"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]

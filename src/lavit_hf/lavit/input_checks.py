# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Clear errors for inputs on which libraries fail in various ways, such as special tensors or wrong argument types."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from .untrusted_files import shorten


# Maximum nesting depth of lists of images and parts of chats. Lists that contain themselves exceed any depth.
MAX_NESTING = 32


class ContextLengthError(ValueError):
    """A prompt leaves no room in the language model's context."""


@contextmanager
def argument_errors() -> Iterator[None]:
    """Turns errors of transformers about wrong argument types, which quote the full value, into `ValueError`s."""
    try:
        yield
    except StrictDataclassError as error:
        reason = str(error).split("\n")[-1].strip().removeprefix("TypeError: ")
        raise ValueError(f"An argument cannot be used. {shorten(reason)}") from error


def as_list(values: Any) -> Any:
    """Converts a column of a table of the `datasets` library, which is a sequence, to a list. Keeps all else as is."""
    if isinstance(values, Sequence) and not isinstance(values, list | tuple | str | bytes | bytearray | memoryview):
        return list(values)
    return values


def check_is_dense(tensor: torch.Tensor, name: str) -> None:
    """Raises a `ValueError` if the input isn't a tensor, or isn't dense."""
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(tensor).__name__}.")
    if tensor.is_quantized or tensor.is_nested or tensor.layout is not torch.strided:
        kind = "quantized" if tensor.is_quantized else f"in layout {tensor.layout}"
        raise ValueError(f"{name} is a tensor that is {kind}. Pass a dense one; see `dequantize()` and `to_dense()`.")


def check_has_values(tensor: torch.Tensor, name: str) -> None:
    """Raises a `ValueError` if a tensor isn't dense, or has no values."""
    check_is_dense(tensor, name)
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is a tensor on the meta device, which has no values.")


def check_ids(ids: torch.Tensor, name: str) -> None:
    """Raises a `ValueError` if the input isn't a tensor of integers with a row for each prompt, and at least one."""
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2 or ids.is_floating_point() or len(ids) == 0:
        found = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, torch.Tensor) else type(ids).__name__
        raise ValueError(f"{name} must be a tensor of integers of shape (batch_size, sequence_length), got {found}.")


def check_nesting(value: Any, name: str) -> None:
    """Raises a `ValueError` if lists or dicts are nested so deeply that one probably contains itself."""
    layer = [value]
    for _ in range(MAX_NESTING):
        layer = [part for outer in layer if isinstance(outer, list | tuple | dict) for part in _parts(outer)]
        # Lists that contain themselves twice would multiply at each level.
        layer = list({id(part): part for part in layer}.values())
        if not layer:
            return
    raise ValueError(f"{name} is nested more than {MAX_NESTING} levels deep, or contains itself.")


def _parts(container: list | tuple | dict) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Refuses in words what libraries fail on, each in another way: special forms of tensors, arguments of other types."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from .untrusted_files import shorten


# How deep lists of images and parts of chats may lie in each other; one that holds itself lies deeper than any.
MAX_NESTING = 32


@contextmanager
def argument_errors() -> Iterator[None]:
    """Turns what transformers raises on an argument of a wrong type, with its value in full, into a `ValueError`."""
    try:
        yield
    except StrictDataclassError as error:
        reason = str(error).split("\n")[-1].strip().removeprefix("TypeError: ")
        raise ValueError(f"An argument cannot be used. {shorten(reason)}") from error


def check_is_dense(tensor: torch.Tensor, name: str) -> None:
    """Raises a `ValueError` for what is no tensor, or one whose values are not stored one by one."""
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(tensor).__name__}.")
    if tensor.is_quantized or tensor.is_nested or tensor.layout is not torch.strided:
        kind = "quantized" if tensor.is_quantized else f"in layout {tensor.layout}"
        raise ValueError(f"{name} is a tensor that is {kind}. Pass a dense one; see `dequantize()` and `to_dense()`.")


def check_has_values(tensor: torch.Tensor, name: str) -> None:
    """Raises a `ValueError` for a tensor that is not dense, or has no values."""
    check_is_dense(tensor, name)
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is a tensor on the meta device, which has no values.")


def check_nesting(value: Any, name: str) -> None:
    """Raises a `ValueError` for lists or dicts that lie so deep in each other that one must hold itself."""
    layer = [value]
    for _ in range(MAX_NESTING):
        layer = [part for outer in layer if isinstance(outer, list | tuple | dict) for part in _parts(outer)]
        # Lists that hold themselves twice are more at each level.
        layer = list({id(part): part for part in layer}.values())
        if not layer:
            return
    raise ValueError(f"{name} is nested more than {MAX_NESTING} levels deep, or contains itself.")


def _parts(container: list | tuple | dict) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Refuses tensors of the special forms that operations fail on, each in another way."""

import torch


def check_is_dense(tensor: torch.Tensor, name: str) -> None:
    """Raises a `ValueError` for what is no tensor, or one whose values are not stored one by one."""
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(tensor).__name__}.")
    if tensor.is_quantized or tensor.is_nested or tensor.layout is not torch.strided:
        kind = "quantised" if tensor.is_quantized else f"in layout {tensor.layout}"
        raise ValueError(f"{name} is a tensor that is {kind}: pass a dense one, by `dequantize()` or `to_dense()`.")


def check_has_values(tensor: torch.Tensor, name: str) -> None:
    """Raises a `ValueError` for a tensor that is not dense, or has no values."""
    check_is_dense(tensor, name)
    if tensor.device.type == "meta":
        raise ValueError(f"{name} is a tensor on the meta device, which has no values.")

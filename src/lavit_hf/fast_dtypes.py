# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Which dtypes a device computes in at full speed."""

import torch


def is_slow(dtype: torch.dtype, device: torch.device) -> bool:
    """
    Returns whether a device computes several times slower in a dtype than in float32, as CPUs do in a 16-bit dtype
    that they have no instructions for.

    Args:
        dtype (`torch.dtype`):
            The dtype.
        device (`torch.device`):
            The device.
    """
    if device.type != "cpu" or dtype.itemsize >= torch.float32.itemsize:
        return False
    if not torch.backends.mkldnn.is_available():
        return True
    # There are no public functions for this yet.
    if dtype is torch.bfloat16:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return not torch.ops.mkldnn._is_mkldnn_fp16_supported()


def fast_autocast(device: torch.device) -> torch.autocast:
    """Returns a context manager that computes in bfloat16, unless the device is slow in it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=not is_slow(torch.bfloat16, device))

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Devices that cannot be used, found out without waiting for torch."""

import ctypes
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from .failures import Failure


CUDA = "cuda"
CUDA_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"  # what torch itself opens


def check_device(name: str) -> None:
    """
    Refuses a CUDA device where torch was built without CUDA or there is no driver. What else may be wrong with a
    device shows when torch is there.

    Args:
        name (`str`):
            As torch names it, or `"auto"`.

    Raises:
        Failure: Says why it cannot be used.
    """
    if name.partition(":")[0] == CUDA and (reason := _why_not_cuda()):
        raise Failure(device_refusal(name, reason))


def device_refusal(name: str, reason: str) -> str:
    """What users are told of a device that cannot be used."""
    return f"the device {name!r} cannot be used: {reason}"


def _why_not_cuda() -> str | None:
    torch = find_spec("torch")
    built_with = runpy.run_path(str(Path(torch.origin).with_name("version.py")))
    if built_with.get("hip"):
        return None  # AMD's, which torch calls by the same name
    if not built_with.get(CUDA):
        return f"torch {built_with['__version__']} was built without CUDA."
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return "there is no NVIDIA driver."
    return None

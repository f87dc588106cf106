# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Detects unusable devices without importing torch."""

import ctypes
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

from .failures import Failure


CUDA = "cuda"
META = "meta"  # torch's device for shapes without values
CUDA_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"  # the library that torch opens


def check_device(name: str) -> None:
    """
    Rejects a name that is empty or of no device that computes, and a CUDA device if torch was built without CUDA or
    there is no driver. Other problems are detected once torch is imported.

    Args:
        name (`str`):
            Name of a torch device, or `"auto"`.

    Raises:
        Failure: If the device cannot be used. The message contains the reason.
    """
    kind = name.strip().partition(":")[0]
    if kind in ("", META):
        raise Failure(device_refusal(name, "nothing is computed on it. Pass auto, cpu or cuda."))
    if kind == CUDA and (reason := _why_not_cuda()):
        raise Failure(device_refusal(name, reason))


def device_refusal(name: str, reason: str) -> str:
    """Creates the error message for a device that cannot be used."""
    return f"the device {name!r} cannot be used: {reason}"


def _why_not_cuda() -> str | None:
    torch = find_spec("torch")
    built_with = runpy.run_path(str(Path(torch.origin).with_name("version.py")))
    if built_with.get("hip"):
        return None  # ROCm, which torch also calls CUDA
    if not built_with.get(CUDA):
        return f"torch {built_with['__version__']} was built without CUDA."
    try:
        ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return "there is no NVIDIA driver."
    return None

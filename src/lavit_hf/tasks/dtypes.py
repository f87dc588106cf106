# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Chooses the dtype that a model computes in."""

import psutil
import torch
from transformers import AutoConfig

from ..fast_dtypes import is_slow
from .repo_files import open_repo
from .weight_sizes import count_model_parameters


LARGEST_SHARE = 0.5  # of the memory, for weights in float32; the rest is for activations and other programs


def stored_dtype(repo: str) -> torch.dtype:
    """Returns the dtype of a checkpoint, or float32 if its configuration has none."""
    return AutoConfig.from_pretrained(repo).dtype or torch.float32


def choose_dtype(repo: str, device: torch.device) -> torch.dtype:
    """
    Chooses the dtype to compute in: that of the checkpoint, unless it is slow on this device. A CPU without
    instructions for a 16-bit dtype computes several times faster in float32, which is chosen if the language model's
    weights then take at most half of the memory.
    """
    dtype = stored_dtype(repo)
    if is_slow(dtype, device) and _fits_in_float32(repo):
        return torch.float32
    return dtype


def _fits_in_float32(repo: str) -> bool:
    weights = count_model_parameters(open_repo(repo)) * torch.float32.itemsize
    return weights <= LARGEST_SHARE * psutil.virtual_memory().total

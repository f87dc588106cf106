# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Rows of features in a parquet column: fp16 bytes, since arrays of arrays are slow to read."""

import numpy as np
import torch


def to_bytes(rows: torch.Tensor) -> bytes:
    """Converts rows of shape `(num_rows, width)` to fp16 bytes."""
    return rows.to(torch.float16).cpu().numpy().tobytes()


def from_bytes(data: bytes, width: int) -> torch.Tensor:
    """Converts bytes back to rows of shape `(num_rows, width)`, in fp16."""
    return torch.from_numpy(np.frombuffer(data, dtype=np.float16).reshape(-1, width).copy())

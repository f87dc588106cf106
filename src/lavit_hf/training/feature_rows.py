# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Rows of features as a parquet column holds them: fp16 bytes, since arrays of arrays are slow to read."""

import numpy as np
import torch


def to_bytes(rows: torch.Tensor) -> bytes:
    """Rows of shape `(num_rows, width)` as fp16 bytes."""
    return rows.to(torch.float16).cpu().numpy().tobytes()


def from_bytes(data: bytes, width: int) -> torch.Tensor:
    """The rows again, `(num_rows, width)`, in fp16."""
    return torch.from_numpy(np.frombuffer(data, dtype=np.float16).reshape(-1, width).copy())

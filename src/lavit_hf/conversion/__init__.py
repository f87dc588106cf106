# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of original LaVIT checkpoints."""

from .convert import convert_checkpoint
from .errors import ConversionError


__all__ = ["ConversionError", "convert_checkpoint"]

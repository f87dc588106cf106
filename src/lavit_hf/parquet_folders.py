# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Folders of parquet files, such as downloads from the Hub."""

from pathlib import Path


def has_parquet(folder: Path) -> bool:
    """Whether a folder or one of its subfolders, such as the `data` of a Hub repo, holds parquet files."""
    return any(folder.glob("**/*.parquet"))


__all__ = ["has_parquet"]

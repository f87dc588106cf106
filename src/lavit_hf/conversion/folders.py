# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Where a conversion starts and where it ends, checked without waiting for torch."""

from pathlib import Path

from huggingface_hub.constants import CONFIG_NAME

from .errors import ConversionError
from .layout import ENCODER


def check_folders(source: Path, destination: Path) -> None:
    """
    Refuses folders that nothing can be converted from or into.

    Args:
        source (`Path`):
            The original's top folder.
        destination (`Path`):
            The folder to make.

    Raises:
        ConversionError: If the source is none, or was converted already.
        FileExistsError: If the destination is there already.
    """
    if not source.is_dir():
        raise ConversionError(
            f"there is no folder {source}. Download the original checkpoint first, for example with `hf download "
            "rain1011/LaVIT-7B-v2 --local-dir FOLDER`."
        )
    if (source / CONFIG_NAME).is_file() and not (source / ENCODER.path).is_file():
        raise ConversionError(f"{source} is not an original checkpoint: it has already been converted.")
    check_is_free(destination)


def check_is_free(destination: Path) -> None:
    """Raises a `FileExistsError` if there is such a file or folder already."""
    if destination.exists():
        raise FileExistsError(f"{destination} already exists. Remove it or choose another destination.")

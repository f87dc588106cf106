# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Checks the folders of a conversion without importing torch."""

import os
from pathlib import Path

from huggingface_hub.constants import CONFIG_NAME

from .errors import ConversionError
from .layout import ENCODER


def check_folders(source: Path, destination: Path) -> None:
    """
    Checks that the folders can be used for a conversion.

    Args:
        source (`Path`):
            The original's top folder.
        destination (`Path`):
            The folder to create.

    Raises:
        ConversionError: If the source doesn't exist or has already been converted.
        FileExistsError: If the destination already exists.
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
    """Raises a `FileExistsError` if the file or folder already exists, even as a link to nowhere."""
    # A path such as new/../old only leads to the old folder once the new one has been created.
    if os.path.lexists(destination) or os.path.lexists(os.path.realpath(destination)):
        raise FileExistsError(f"{destination} already exists. Remove it or choose another destination.")

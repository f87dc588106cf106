# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Records of what a run was started with, next to its output."""

import json
from pathlib import Path
from typing import Any

from ..lavit.atomic_files import atomic_file
from .errors import TrainingError


def write_record(path: Path, settings: dict[str, Any]) -> None:
    """Writes a record, whole or not at all."""
    with atomic_file(path) as file:
        file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def read_record(path: Path) -> dict[str, Any]:
    """
    Reads a record.

    Raises:
        TrainingError: If it is damaged.
    """
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise TrainingError(
            f"{path} is damaged, so it is unknown which settings its folder was made with. Remove the folder, or "
            f"restore the file. ({error})"
        ) from error


__all__ = ["read_record", "write_record"]

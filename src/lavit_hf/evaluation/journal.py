# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Saves answers batch by batch, so that a killed run can resume and loses at most the current batch."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..lavit.atomic_files import atomic_file
from ..tasks.failures import Failure
from .identity import check_same


SETTINGS_NAME = "settings.json"


class Journal:
    """
    A folder with one file per process and one line per batch.

    Args:
        folder (`Path`):
            The folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def is_there(self) -> bool:
        """Whether there is an unfinished run."""
        return (self.folder / SETTINGS_NAME).is_file()

    def check(self, settings: dict[str, Any]) -> None:
        """Raises a [`Failure`] if the unfinished run has other settings."""
        path = self.folder / SETTINGS_NAME
        if self.is_there:
            check_same(path.parent, _parse(path.read_text(), path), settings)

    def start(self, settings: dict[str, Any]) -> None:
        """Creates the folder, or resumes in an existing one."""
        self.check(settings)
        if not self.is_there:
            with atomic_file(self.folder / SETTINGS_NAME) as file:
                file.write_text(json.dumps(settings))
        for path in self.folder.glob("*.jsonl"):
            _cut_torn_line(path)

    def read(self) -> dict[int, dict[str, Any]]:
        """Returns the finished batches by number."""
        batches = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                if line:
                    batch = _parse(line, path)
                    batches[batch["number"]] = batch
        return batches

    def append(self, process: int, batch: dict[str, Any]) -> None:
        """Appends a batch and flushes it to disk."""
        with (self.folder / f"{process}.jsonl").open("ab") as file:
            file.write(json.dumps(batch).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Removes the folder once its batches are in the result."""
        shutil.rmtree(self.folder)


def _cut_torn_line(path: Path) -> None:
    """Removes an incomplete last line, left by a killed process."""
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < path.stat().st_size:
        os.truncate(path, whole)


def _parse(text: str | bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failure(f"{path} is damaged: {error}. Delete {path.parent} to start over.") from error

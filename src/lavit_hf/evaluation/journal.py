# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Answers as they come, so that a killed run goes on: nothing is lost but the batch that was being written."""

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
    A folder with a file of each process, a line for each batch.

    Args:
        folder (`Path`):
            The folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def is_there(self) -> bool:
        """Whether a run was started that has not ended."""
        return (self.folder / SETTINGS_NAME).is_file()

    def check(self, settings: dict[str, Any]) -> None:
        """Raises a [`Failure`] where it is of a run with other settings."""
        path = self.folder / SETTINGS_NAME
        if self.is_there:
            check_same(path.parent, _parse(path.read_text(), path), settings)

    def start(self, settings: dict[str, Any]) -> None:
        """Makes the folder, or goes on in one that is there."""
        self.check(settings)
        if not self.is_there:
            with atomic_file(self.folder / SETTINGS_NAME) as file:
                file.write_text(json.dumps(settings))
        for path in self.folder.glob("*.jsonl"):
            _cut_torn_line(path)

    def read(self) -> dict[int, dict[str, Any]]:
        """The batches that are done, by their numbers."""
        batches = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                if line:
                    batch = _parse(line, path)
                    batches[batch["number"]] = batch
        return batches

    def append(self, process: int, batch: dict[str, Any]) -> None:
        """Adds a batch, and sees to it that it outlives a power failure."""
        with (self.folder / f"{process}.jsonl").open("ab") as file:
            file.write(json.dumps(batch).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Removes the folder, when its batches are in the result."""
        shutil.rmtree(self.folder)


def _cut_torn_line(path: Path) -> None:
    """Cuts off what a killed process wrote of a line."""
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < path.stat().st_size:
        os.truncate(path, whole)


def _parse(text: str | bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failure(f"{path} is damaged: {error}. Delete {path.parent} to start over.") from error

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Finds the images of annotations by name."""

import os
from pathlib import Path, PurePosixPath

from ..tasks.failures import Failure


class PictureFolder:
    """
    The images in a folder and its subfolders.

    Args:
        folder (`Path`):
            The folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._paths: dict[str, list[Path]] = {}
        for place, _, names in os.walk(folder, followlinks=True):
            for name in names:
                self._paths.setdefault(name, []).append(Path(place, name))

    def find(self, names: list[str]) -> list[str]:
        """
        Finds the paths of images.

        Args:
            names (`list[str]`):
                Names of the images, including folders if several have the same name.

        Raises:
            Failure: If images are missing or ambiguous.
        """
        paths = [self._find(name) for name in names]
        missing = sorted({name for name, path in zip(names, paths) if path is None})
        if missing:
            raise Failure(
                f"{len(missing):,} of the {len(set(names)):,} annotated images are not in {self.folder}, such as "
                f"{missing[0]}. The annotations belong to other images, or the download is incomplete."
            )
        return paths

    def _find(self, name: str) -> str | None:
        wanted = PurePosixPath(name)
        paths = self._paths.get(wanted.name, [])
        fitting = [path for path in paths if path.parts[-len(wanted.parts) :] == wanted.parts]
        paths = fitting or paths
        if len(paths) > 1:
            raise Failure(f"two images are called {name}: {paths[0]} and {paths[1]}. Keep only one of them.")
        return str(paths[0]) if paths else None

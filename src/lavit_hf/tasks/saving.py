# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Where images go: each has a file of its own, and an existing one is overwritten only if asked to."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from .failures import Failure
from .images import STANDARD_INPUT, URL_PREFIXES


def name_outputs(sources: Sequence[str], folder: Path) -> dict[str, Path]:
    """
    A PNG file for each image, called as the image is; those of one name are numbered.

    Args:
        sources (`Sequence[str]`):
            The images.
        folder (`Path`):
            Where the files go.

    Returns:
        `dict[str, Path]`: the file of each image.
    """
    outputs, taken = {}, set()
    last_numbers = {}  # of each stem; all up to it are taken, and to try them again would be quadratic
    for source in sources:
        stem = _stem(source)
        name, number = stem, last_numbers.get(stem.casefold(), 1)
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        last_numbers[stem.casefold()] = number
        outputs[source] = folder / f"{name}.png"
    return outputs


def number_outputs(path: Path, count: int) -> list[Path]:
    """The path itself, or where there are several images `name-1.png`, `name-2.png` and so on."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]


def check_free(paths: Sequence[Path], force: bool, option: str = "--output") -> None:
    """
    Looks whether files can be made.

    Args:
        paths (`Sequence[Path]`):
            The files.
        force (`bool`):
            Whether they may overwrite others.
        option (`str`, *optional*, defaults to `"--output"`):
            The option that names them, for messages.

    Raises:
        Failure: If one of them exists and may not be overwritten, or its folder cannot be.
    """
    for path in paths:
        if path.is_dir():
            raise Failure(f"{path} is a folder. Pass another {option}.")
        if path.exists() and not force:
            raise Failure(f"{path} already exists. Pass --force to overwrite it, or another {option}.")
        if in_the_way := next((folder for folder in path.parents if folder.is_file()), None):
            raise Failure(f"{path} cannot be created because {in_the_way} is a file. Pass another {option}.")


def _stem(source: str) -> str:
    if source == STANDARD_INPUT:
        return "stdin"
    path = urlsplit(source).path if source.startswith(URL_PREFIXES) else source
    return Path(path).stem or "picture"

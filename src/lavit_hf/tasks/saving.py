# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Output files of images. Each image has its own file, and existing files are only overwritten on request."""

import os
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from ..lavit.atomic_files import unfinished_name
from .failures import Failure
from .images import STANDARD_INPUT, URL_PREFIXES


MAX_STEM_BYTES = 200


def name_outputs(sources: Sequence[str], folder: Path) -> dict[str, Path]:
    """
    Chooses a PNG file for each image, with the name of the image, and a number if several have the same name.

    Args:
        sources (`Sequence[str]`):
            The images.
        folder (`Path`):
            Output folder.

    Returns:
        `dict[str, Path]`: the output file of each image.
    """
    outputs, taken = {}, set()
    last_numbers = {}  # by stem; all numbers up to it are taken, and retrying them would take quadratic time
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
    """Returns the path itself, or `name-1.png`, `name-2.png` and so on for several images."""
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]


def check_free(paths: Collection[Path], force: bool, option: str = "--output") -> None:
    """
    Checks that files can be created.

    Args:
        paths (`Collection[Path]`):
            The files.
        force (`bool`):
            Whether they may overwrite others.
        option (`str`, *optional*, defaults to `"--output"`):
            Name of the option for the files, for messages.

    Raises:
        Failure: If a file exists, even as a link to nowhere, and may not be overwritten, or it cannot be created.
    """
    for path in paths:
        if path.is_dir():
            raise Failure(f"{path} is a folder. Pass another {option}.")
        if os.path.lexists(path) and not force:
            raise Failure(f"{path} already exists. Pass --force to overwrite it, or another {option}.")
        if in_the_way := next((folder for folder in path.parents if _is_no_folder(folder)), None):
            raise Failure(f"{path} cannot be created because {in_the_way} is a file. Pass another {option}.")
    nearest = {path: _nearest_folder(path) for path in paths}
    for folder, path in {folder: path for path, folder in nearest.items()}.items():
        _check_takes_files(folder, path, option)
    for path, folder in nearest.items():
        _check_length(folder, path, option)


def check_keeps_images(sources: Sequence[str], outputs: Sequence[Path], option: str = "--output") -> None:
    """
    Checks that no output file replaces an image, which may not even have been read by then.

    Args:
        sources (`Sequence[str]`):
            The images.
        outputs (`Sequence[Path]`):
            The output files.
        option (`str`, *optional*, defaults to `"--output"`):
            Name of the option for the files, for messages.

    Raises:
        Failure: If an output file is one of the images.
    """
    existing = {os.path.realpath(path): path for path in outputs if path.exists()}
    replaced = next((existing[place] for place in map(os.path.realpath, sources) if place in existing), None)
    if replaced is not None:
        raise Failure(f"{replaced} is one of the images to read. Pass another {option}.")


def _is_no_folder(path: Path) -> bool:
    return path.exists() and not path.is_dir()


def _nearest_folder(path: Path) -> Path:
    """Returns the folder of a file, or the nearest one above that exists, following links as when it is written."""
    return next(folder for folder in Path(os.path.realpath(path)).parents if folder.is_dir())


def _check_takes_files(folder: Path, path: Path, option: str) -> None:
    """Creates a file without a name, because permissions do not tell: some folders, such as /proc, take no files."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Failure(
            f"{path} cannot be created, because {folder} takes no files ({error.strerror}). Pass another {option}."
        ) from error


def _check_length(folder: Path, path: Path, option: str) -> None:
    """While it is unfinished, a file has a longer name, which the file system may not allow."""
    try:
        with suppress(FileNotFoundError):
            os.lstat(folder / unfinished_name(path).name)
    except OSError as error:
        raise Failure(f"{path} cannot be created: {error.strerror}. Pass another {option}.") from error


def _stem(source: str) -> str:
    if source == STANDARD_INPUT:
        return "stdin"
    path = urlsplit(source).path if source.startswith(URL_PREFIXES) else source
    return _cut(Path(path).stem) or "picture"


def _cut(stem: str) -> str:
    """Cuts a name, as file systems allow 255 bytes with the number and the marks of unfinished files."""
    name = os.fsencode(stem)
    return stem if len(name) <= MAX_STEM_BYTES else name[:MAX_STEM_BYTES].decode(errors="ignore")

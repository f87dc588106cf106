# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reads untrusted checkpoints. Problems raise a single error that names the checkpoint."""

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from safetensors import SafetensorError, safe_open


# About one screen. Messages may quote untrusted text of any length.
MAX_MESSAGE_LENGTH = 2000

# Configurations and indices are a few kilobytes large and a dozen levels deep.
MAX_JSON_BYTES = 64 * 2**20
MAX_JSON_DEPTH = 64

INDEX_ENDING = ".index.json"

# Prefix of counts in configurations, such as the number of layers, and a limit that no model exceeds.
COUNT_PREFIX = "num_"
MAX_COUNT = 2**16

# Start of Python's message about an unknown argument.
_UNKNOWN_ARGUMENT = "got an unexpected keyword argument"


class CheckpointError(ValueError, RuntimeError):
    """
    Raised if a checkpoint can't be loaded. The message names it. Also a `RuntimeError`, which transformers raises if
    weights don't fit their model.
    """

    def __init__(self, message: str):
        super().__init__(shorten(message))


def shorten(text: str, length: int = MAX_MESSAGE_LENGTH) -> str:
    """Prepares untrusted text for messages: escapes control characters and truncates with an ellipsis."""
    text = "".join(_printable(character) for character in text[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def _printable(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    return character.encode("unicode_escape").decode()


def describe_error(error: BaseException) -> str:
    """Returns the first line of an error's message, with its type if the message alone would be unclear."""
    message = str(error).strip().split("\n")[0]
    return message if message and isinstance(error, ValueError) else f"{type(error).__name__}: {message}"


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """
    Reads a JSON object.

    Args:
        path (`str` or `os.PathLike`):
            The file.

    Returns:
        `dict[str, Any]`: The contents.

    Raises:
        CheckpointError: If it isn't a JSON object, or has duplicate keys, numbers that aren't finite, invalid Unicode,
            more than 64 levels or more than 64 MiB.
        OSError: If the file doesn't exist.
    """
    path = Path(path)
    check_is_regular(path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path} is not a configuration or index: it is larger than {MAX_JSON_BYTES} bytes.")
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        _check_values(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise CheckpointError(
            f"{path} is not a usable JSON object, or it is truncated. Download it again. ({describe_error(error)})"
        ) from error
    return content


def check_is_regular(path: Path) -> None:
    """Raises a `CheckpointError` for a named pipe or a device, which could be read forever."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CheckpointError(f"{path} is not a regular file. Remove it, or replace it by one.")


def _check_are_regular(folder: Path) -> None:
    """Checks all files of a checkpoint, because libraries open them without a check."""
    # A pipeline has one folder per component.
    for path in sorted([*folder.glob("[!.]*"), *folder.glob("[!.]*/[!.]*")]):
        check_is_regular(path)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is repeated")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds the number {name}")


def _check_values(content: dict[str, Any]) -> None:
    remaining = [(content, 1)]
    while remaining:
        value, depth = remaining.pop()
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} levels deep")
        if isinstance(value, str):
            value.encode()  # raises an error for half of a surrogate pair, which can be written as an escape
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("it holds a number out of bounds")
        elif isinstance(value, dict):
            remaining += ((part, depth + 1) for pair in value.items() for part in pair)
        elif isinstance(value, list):
            remaining += ((part, depth + 1) for part in value)


def check_counts(config: dict[str, Any]) -> None:
    """Raises a `ValueError` if a configuration has a huge number of layers or labels, which are created one by one."""
    remaining = [config]
    while remaining:
        content = remaining.pop()
        remaining += [value for value in content.values() if isinstance(value, dict)]
        for name, value in content.items():
            if str(name).startswith(COUNT_PREFIX) and isinstance(value, int) and abs(value) > MAX_COUNT:
                raise ValueError(
                    f"the configuration has a {shorten(name, 100)} above {MAX_COUNT}, which no model has."
                )


def read_weight_map(index: str | os.PathLike) -> dict[str, str]:
    """
    Reads the index of a sharded checkpoint.

    Args:
        index (`str` or `os.PathLike`):
            The index.

    Returns:
        `dict[str, str]`: The file of each tensor, relative to the index's folder.

    Raises:
        CheckpointError: If it isn't an index, or refers to a file outside its folder.
    """
    index = Path(index)
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} is not an index of shards: its 'weight_map' must give a file for each tensor.")
    for name in set(weight_map.values()):
        check_inside(index.parent, name, index)
    return weight_map


def check_indices(folder: str | os.PathLike) -> None:
    """Raises a `CheckpointError` if an index in a folder or its subfolders refers to a file elsewhere."""
    for pattern in (f"*{INDEX_ENDING}", f"*/*{INDEX_ENDING}"):
        for index in sorted(Path(folder).glob(pattern)):
            read_weight_map(index)


def check_inside(folder: Path, name: str, source: str | os.PathLike) -> None:
    """
    Raises a `CheckpointError` if a file name points outside its folder, either directly or through a symbolic link.
    Links in the Hub's cache, from a snapshot to the blobs of the same repo, are allowed.

    Args:
        folder (`Path`):
            The folder.
        name (`str`):
            The file name, relative to the folder.
        source (`str` or `os.PathLike`):
            The file that contains the name.
    """
    check_written_name(name, source)
    if not is_inside(folder / name, folder):
        raise CheckpointError(
            f"{folder / name} is a symbolic link out of {folder}. Copy the file there if you trust its source."
        )


def check_written_name(name: str, source: str | os.PathLike) -> None:
    """Raises a `CheckpointError` if a file name in a source points outside its folder, without following links."""
    written = PurePosixPath(name)
    if written.is_absolute() or ".." in written.parts or PureWindowsPath(name).drive or set(name) & {"\\", "\0"}:
        raise CheckpointError(f"{source} names the file {shorten(name, 200)!r}, which is not inside its folder.")


def is_inside(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Whether a path is in a folder after following all symbolic links."""
    # Not with Path.resolve, which fails on links to themselves.
    place, folder = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return any(place.is_relative_to(root) for root in (folder, *_cache_blobs(folder)))


def _cache_blobs(folder: Path) -> Iterator[Path]:
    """Yields the blob folders of a snapshot in the Hub's cache: that of the repo, and the one shared by all repos."""
    for place in (folder, *folder.parents):
        repo = place.parent.parent
        if place.parent.name == "snapshots" and repo.name.startswith("models--"):
            yield from (repo / "blobs", repo.parent / "blobs")


@contextmanager
def naming_checkpoint(source: str | os.PathLike, kind: str, weights: Iterable[str] | None = None) -> Iterator[None]:
    """
    Turns any error that libraries raise on a damaged checkpoint into a single [`CheckpointError`] that names it. Named
    pipes and devices among its files are refused before they are read.

    Args:
        source (`str` or `os.PathLike`):
            The folder, file or Hub id that is loaded.
        kind (`str`):
            Name of the class that is loaded.
        weights (`Iterable[str]`, *optional*):
            The weight files, one of which may be damaged.
    """
    if source and Path(source).is_dir():
        _check_are_regular(Path(source))
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises plain Exceptions
        if _is_other_fault(error):
            raise
        if isinstance(error, TypeError) and _UNKNOWN_ARGUMENT in str(error):
            raise
        if isinstance(error, ValueError) and str(source) in str(error) and len(str(error)) <= MAX_MESSAGE_LENGTH:
            raise
        reason = _find_damaged(source, weights) or f"{source} cannot be loaded as {kind}: {describe_error(error)}"
        raise CheckpointError(reason) from error


def _is_other_fault(error: Exception) -> bool:
    """Whether an error isn't caused by the checkpoint, or is already clear."""
    import torch  # only on errors, because the command line checks its options without torch

    others = (OSError, ImportError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
    return isinstance(error, others)


def _find_damaged(source: str | os.PathLike, weights: Iterable[str] | None) -> str | None:
    """Describes what is wrong with the first file that can't be read."""
    folder = Path(source or "")
    # A pipeline has one folder per component.
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]) if source and folder.is_dir() else ():
        try:
            (read_weight_map if path.name.endswith(INDEX_ENDING) else read_json)(path)
        except CheckpointError as error:
            return str(error)
    for file in weights or ():
        try:
            check_weights(file)
        except CheckpointError as error:
            return str(error)
    return None


def check_weights(file: str | os.PathLike) -> None:
    """Raises a `CheckpointError` if a file of safetensors is damaged. Other formats aren't checked."""
    if Path(file).suffix != ".safetensors":
        return
    try:
        with safe_open(file, framework="pt"):
            pass
    except SafetensorError as error:
        raise CheckpointError(
            f"{file} cannot be read and is probably truncated. Download it again. ({error})"
        ) from error

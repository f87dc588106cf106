# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Files and folders that are either complete or absent, no matter when the process that writes them is killed.

Unfinished files and folders have names that start with a dot and end in `.unfinished`, and are renamed once complete.
The process that writes them holds a lock, which the system releases when the process ends. This way, the next run can
tell leftovers of a killed process from files that are still being written, and removes them.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


try:
    import fcntl
except ImportError:  # not available on Windows
    fcntl = None


UNFINISHED = ".unfinished"
NEW_FOLDER, OLD_FOLDER, LOCK_NAME = "new", "old", "lock"

# Tries to create a lock whose folder keeps disappearing. Some folders, such as /proc, never take a file.
MAX_ATTEMPTS = 1000

# Folder within a repo where changes are prepared.
SAVE_FOLDER = f".save{UNFINISHED}"

# Prefix of `Trainer`'s checkpoints. Importing transformers' own constant would import PEFT and bitsandbytes.
CHECKPOINT_PREFIX = "checkpoint-"


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """
    Yields a temporary file to write. It is renamed to `path` on success, and removed on failure.

    Args:
        path (`str` or `os.PathLike`):
            The final path. A missing folder is created. An existing file passes its permissions on.

    Example:

    ```python
    >>> with atomic_file("figures.json") as file:
    ...     file.write_text("{}")
    ```
    """
    path = Path(path)
    unfinished = unfinished_name(path)
    with locked(unfinished):
        try:
            if path.is_file():
                shutil.copymode(path, unfinished)
            yield unfinished
            flush(unfinished)  # raises an error if the disk is full
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """
    Yields a temporary folder to fill. It is renamed to `path` on success, and removed on failure.

    Args:
        path (`str` or `os.PathLike`):
            The final path.
        replace (`bool`, *optional*, defaults to `False`):
            Whether to replace an existing folder.

    Raises:
        FileExistsError: If the folder exists and `replace` isn't set, or if another process is creating it.
    """
    path = Path(path)
    unfinished = unfinished_name(path)
    try:
        with locked(unfinished / LOCK_NAME, wait=False):
            try:
                _remove_leftovers(unfinished, path)
                if path.exists() and not replace:
                    raise FileExistsError(f"{path} already exists. Remove it or choose another destination.")
                (unfinished / NEW_FOLDER).mkdir()
                yield unfinished / NEW_FOLDER
                if path.exists():
                    path.rename(unfinished / OLD_FOLDER)
                (unfinished / NEW_FOLDER).rename(path)
            finally:
                _bring_back(unfinished, path)
                shutil.rmtree(unfinished, ignore_errors=True)
    except BlockingIOError as error:
        raise FileExistsError(f"another process is writing {path}. Wait for it, or stop it.") from error


def _bring_back(unfinished: Path, path: Path) -> None:
    """Restores the old folder after an interruption between the two renames."""
    if not path.exists() and (unfinished / OLD_FOLDER).exists():
        (unfinished / OLD_FOLDER).rename(path)


def _remove_leftovers(unfinished: Path, path: Path) -> None:
    _bring_back(unfinished, path)
    for leftover in unfinished.iterdir():
        if leftover.name != LOCK_NAME:
            shutil.rmtree(leftover)


def unfinished_name(path: Path) -> Path:
    """Returns the temporary path of a file or folder, next to its final path."""
    return path.with_name(f".{path.name}{UNFINISHED}")


def is_of_a_run(path: str | os.PathLike) -> bool:
    """Whether a relative path in a repo belongs to a checkpoint of a run or to an unfinished save."""
    return any(part.startswith((".", CHECKPOINT_PREFIX)) for part in Path(path).parts)


def is_unfinished(path: Path) -> bool:
    """Whether a path is within an unfinished file or folder, which is renamed as a whole later."""
    return any(part.startswith(".") and part.endswith(UNFINISHED) for part in path.parts)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """
    Locks a file for this process. The file and its folder are created if they don't exist. Does nothing if the file
    system doesn't support locks.

    Args:
        path (`Path`):
            The file.
        wait (`bool`, *optional*, defaults to `True`):
            Whether to wait until no other process holds the lock.

    Raises:
        BlockingIOError: If another process holds the lock and `wait` is `False`.
        FileNotFoundError: If the folder takes no files.
    """
    descriptor = _take(path, wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _take(path: Path, wait: bool) -> int:
    attempts = 0
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # the previous holder has just removed the folder
            attempts += 1
            if attempts == MAX_ATTEMPTS:
                raise
            continue
        try:
            _lock(descriptor, wait)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the previous holder has renamed or removed it


def _lock(descriptor: int, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # the file system doesn't support locks
        return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def flush(path: Path) -> None:
    """Flushes a file or folder to disk, so that it survives a power failure."""
    if os.name != "posix":  # other systems can't flush files that are open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["atomic_file", "atomic_folder"]

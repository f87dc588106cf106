# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Files and folders that are whole or absent, wherever the process that writes them is killed.

What is unfinished has a name that starts with a dot and ends in `.unfinished`, and is renamed when it is whole. Who
writes it holds a lock, which the system takes from a process that ends: so the next run tells what a killed one has
left from what is just being written, and removes it.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


UNFINISHED = ".unfinished"
NEW_FOLDER, OLD_FOLDER, LOCK_NAME = "new", "old", "lock"

# Where in a repo its changes are prepared.
SAVE_FOLDER = f".save{UNFINISHED}"


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """
    A file to write in place of `path`, which it becomes when all went well and vanishes when not.

    Args:
        path (`str` or `os.PathLike`):
            The file that is to be. Its folder is made where there is none.

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
            yield unfinished
            flush(unfinished)  # a full disk shows here
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """
    A folder to fill in place of `path`, which it becomes when all went well and vanishes when not.

    Args:
        path (`str` or `os.PathLike`):
            The folder that is to be.
        replace (`bool`, *optional*, defaults to `False`):
            Whether a folder that is there already makes way.

    Raises:
        FileExistsError: If the folder is there and is not to be replaced, or another process is just making it.
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
                shutil.rmtree(unfinished, ignore_errors=True)
    except BlockingIOError as error:
        raise FileExistsError(f"another process is writing {path}. Wait for it, or stop it.") from error


def _remove_leftovers(unfinished: Path, path: Path) -> None:
    if not path.exists() and (unfinished / OLD_FOLDER).exists():  # killed between the two renames
        (unfinished / OLD_FOLDER).rename(path)
    for leftover in unfinished.iterdir():
        if leftover.name != LOCK_NAME:
            shutil.rmtree(leftover)


def unfinished_name(path: Path) -> Path:
    """Where a file or a folder is until it is whole: beside its place."""
    return path.with_name(f".{path.name}{UNFINISHED}")


def is_unfinished(path: Path) -> bool:
    """Whether a path lies in what is renamed as a whole later, so that nobody needs to care for it alone."""
    return any(part.startswith(".") and part.endswith(UNFINISHED) for part in path.parts)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """
    Holds a file for this process alone, made with its folder where there is none. Where the file system has no locks,
    nothing is held.

    Args:
        path (`Path`):
            The file.
        wait (`bool`, *optional*, defaults to `True`):
            Whether to wait for who holds it.

    Raises:
        BlockingIOError: If another process holds it and there is no waiting.
    """
    descriptor = _take(path, wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _take(path: Path, wait: bool) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # who held it has just removed the folder
            continue
        try:
            _lock(descriptor, wait)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who held it has renamed or removed it


def _lock(descriptor: int, wait: bool) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def flush(path: Path) -> None:
    """Sees to it that a file or a folder outlives a power failure."""
    if os.name != "posix":  # where nothing is flushed that is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["atomic_file", "atomic_folder"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Kills a process that writes, at a chosen one of its file operations."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


KILLED = 137
WRITING = os.O_WRONLY | os.O_RDWR


def count_and_kill(folder: Path, number: int) -> Callable[[], int]:
    """
    Ends this process right before its operation `number` on files in `folder`. Opening a file to write is two: before
    it, and when it is empty.

    Returns:
        `Callable[[], int]`: tells how many operations there have been.
    """
    folder, left = str(folder), number

    def watch(event: str, arguments: tuple) -> None:
        nonlocal left
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
        is_write = event == "open" and bool((arguments[2] or 0) & WRITING)
        if not path.startswith(folder) or (event == "open" and not is_write):
            return
        if left == 0:
            os._exit(KILLED)
        if left == 1 and is_write:
            left = -1  # opening is watched too
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            os._exit(KILLED)
        left -= 1 + is_write

    sys.addaudithook(watch)
    return lambda: number - left


def run_killed(action: Callable[[], object], folder: Path, number: int) -> bool:
    """Runs `action` in a process of its own and kills that at a file operation; whether it came to it."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            count_and_kill(folder, number)
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, KILLED), f"ended by {code}"
    return code == KILLED


def kill_everywhere(
    action: Callable[[Path], object], start: Callable[[Path], object], folder: Path, stride: int = 1
) -> Iterator[Path]:
    """
    Kills an action at every file operation in turn, or at every so many-th.

    Args:
        action (`Callable[[Path], object]`):
            What is killed, given a folder to work in.
        start (`Callable[[Path], object]`):
            Fills the folder that it finds.
        folder (`Path`):
            Where the folders are made.
        stride (`int`, *optional*, defaults to 1):
            How many operations to go on from a kill to the next.

    Returns:
        `Iterator[Path]`: what each kill has left, to be looked at before the next.
    """
    number, killed = 0, True
    while killed:
        place = folder / f"kill-{number}"
        place.mkdir(parents=True)
        start(place)
        killed = run_killed(lambda place=place: action(place), place, number)
        yield place
        shutil.rmtree(place)
        number += stride

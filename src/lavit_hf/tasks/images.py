# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Finds images given on the command line, then reads them one by one to limit memory use."""

import glob
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from .failures import EXIT_FAILURE, Failure, report


if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

STANDARD_INPUT = "-"
URL_PREFIXES = ("http://", "https://")


class Skipped:
    """
    Counts and reports images that could not be read, while the others are processed.

    Args:
        allowed (`bool`, *optional*, defaults to `True`):
            Whether to skip unreadable images instead of raising a [`Failure`].
    """

    def __init__(self, allowed: bool = True):
        self.allowed = allowed
        self.count = 0

    def add(self, source: str, reason: object) -> None:
        """Reports a skipped image on stderr."""
        if not self.allowed:
            raise Failure(f"{source}: {reason}")
        self.count += 1
        report(f"skipped {source}: {reason}")

    def exit_if_any(self) -> None:
        """Exits the command with code 1 if an image was skipped."""
        if self.count:
            raise SystemExit(EXIT_FAILURE)


def find_images(arguments: Iterable[str], skipped: Skipped) -> list[str]:
    """
    Finds images. The result contains files, URLs and standard input, which are only checked when they are read.

    Args:
        arguments (`Iterable[str]`):
            Paths, folders (without subfolders), globs (with `**` for any depth), URLs, or `-`.
        skipped (`Skipped`):
            Receives arguments that do not exist.

    Returns:
        `list[str]`: the images in the given order, without duplicates.

    Raises:
        Failure: If there are no images.
    """
    sources: dict[str, None] = {}
    for argument in arguments:
        try:
            found = _expand(argument)
        except OSError as error:  # a folder that may not be read, or a name that is too long
            skipped.add(argument, error.strerror)
            continue
        if not found:
            skipped.add(argument or "''", _nothing_found(argument))
        sources |= dict.fromkeys(found)
    if not sources:
        raise Failure("there is no image to read. Pass files, folders, globs or URLs.")
    return list(sources)


def read_image(source: str) -> "Image.Image":
    """
    Reads one image.

    Args:
        source (`str`):
            An image from [`find_images`].

    Returns:
        `PIL.Image.Image`: The image, upright, in mode `"RGB"`.

    Raises:
        ValueError: If it cannot be read.
    """
    from PIL import Image

    from ..lavit.image_loading import load_image

    try:
        return load_image(_read_standard_input() if source == STANDARD_INPUT else source)
    except ValueError as error:
        if not isinstance(error.__cause__, Image.DecompressionBombError):
            raise
        # The model's own message gives advice for Python, not for a shell.
        raise ValueError(
            f"{source} is too large to decode safely ({error.__cause__}). Scale it down first{_way(source)}."
        ) from error


def _way(source: str) -> str:
    if source == STANDARD_INPUT or source.startswith(URL_PREFIXES):
        return ""
    smaller = f"{Path(source).stem}-small.jpg"
    return f", for example with `magick {shlex.quote(source)} -resize 4000x4000 {shlex.quote(smaller)}`"


def read_batches(
    sources: Iterable[str], batch_size: int, prepare: Callable[["Image.Image"], T], skipped: Skipped
) -> Iterator[list[tuple[str, T]]]:
    """
    Reads images in batches, each while the model processes the previous one. Only prepared inputs are kept in memory,
    and at most one image at full size.

    Args:
        sources (`Iterable[str]`):
            Images from [`find_images`].
        batch_size (`int`):
            Maximum number of images per batch.
        prepare (`Callable`):
            Prepares the model's input from an image.
        skipped (`Skipped`):
            Receives images that cannot be read.

    Yields:
        `list[tuple[str, T]]`: sources and prepared inputs; never empty.
    """
    sources = iter(sources)

    def read_batch() -> tuple[list[tuple[str, T]], list[tuple[str, ValueError]]]:
        batch, unreadable = [], []
        for source in sources:
            try:
                batch.append((source, prepare(read_image(source))))
            except ValueError as error:
                unreadable.append((source, error))
            if len(batch) == batch_size:
                break
        return batch, unreadable

    wait_for_batch = run_beside(read_batch)
    while True:
        batch, unreadable = wait_for_batch()
        wait_for_batch = run_beside(read_batch)
        for source, error in unreadable:
            skipped.add(source, error)
        if not batch:
            return
        yield batch


def run_beside(function: Callable[[], T]) -> Callable[[], T]:
    """
    Runs a function in the background.

    Args:
        function (`Callable`):
            The function, which runs in a daemon thread.

    Returns:
        `Callable`: waits for the result and returns it, or raises the function's error.
    """
    results = SimpleQueue()

    def run() -> None:
        try:
            results.put((function(), None))
        except BaseException as error:
            results.put((None, error))

    def wait() -> T:
        result, error = results.get()
        if error is not None:
            raise error
        return result

    Thread(target=run, daemon=True).start()  # exit would wait for pool threads, which may be stuck on the network
    return wait


def _expand(argument: str) -> list[str]:
    """Returns the images that an argument stands for."""
    if argument == STANDARD_INPUT or argument.startswith(URL_PREFIXES) or _is_file_or_pipe(argument):
        return [argument]
    if _is_folder(argument):
        return _pictures_in(Path(argument))
    return sorted(path for path in glob.glob(argument, recursive=True) if Path(path).is_file())


def _is_file_or_pipe(argument: str) -> bool:
    """Whether an argument can be opened, such as a file, or a pipe from `<(command)` in a shell."""
    return argument != "" and Path(argument).exists() and not Path(argument).is_dir()


def _is_folder(argument: str) -> bool:
    """Whether an argument is a folder. To `Path`, nothing, as from an unset variable, is the current folder."""
    return argument != "" and Path(argument).is_dir()


def _nothing_found(argument: str) -> str:
    if not _is_folder(argument):
        return "no such file"
    pattern = shlex.quote(f"{Path(argument)}/**/*.png")
    return f"it contains no images, and its subfolders are not searched. To search them, pass {pattern}"


def _pictures_in(folder: Path) -> list[str]:
    from PIL import Image

    extensions = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = (path for path in folder.iterdir() if path.suffix.lower() in extensions and not path.name.startswith("."))
    return sorted(str(path) for path in files if path.is_file())


def _read_standard_input() -> bytes:
    from ..lavit.image_loading import MAX_STREAM_BYTES

    redirect = "Redirect an image to it, as in `lavit caption - < cat.jpg`."
    if sys.stdin.isatty():
        raise ValueError(f"standard input is a terminal. {redirect}")
    content = sys.stdin.buffer.read(MAX_STREAM_BYTES + 1)
    if len(content) > MAX_STREAM_BYTES:
        raise ValueError(f"standard input is larger than {MAX_STREAM_BYTES >> 20} MB.")
    if not content:
        raise ValueError(f"standard input is empty. {redirect}")
    return content

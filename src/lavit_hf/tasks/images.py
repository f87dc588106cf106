# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Images that the command line names: found first, then read one by one, so that memory stays bounded."""

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
MAX_INPUT_BYTES = 512 * 2**20  # of an image on standard input
URL_PREFIXES = ("http://", "https://")


class Skipped:
    """
    Keeps count of images that could not be read: each is reported, and the others go on.

    Args:
        allowed (`bool`, *optional*, defaults to `True`):
            Whether one may be skipped; otherwise it is a [`Failure`].
    """

    def __init__(self, allowed: bool = True):
        self.allowed = allowed
        self.count = 0

    def add(self, source: str, reason: object) -> None:
        """Reports an image on stderr."""
        if not self.allowed:
            raise Failure(f"{source}: {reason}")
        self.count += 1
        report(f"skipped {source}: {reason}")

    def exit_if_any(self) -> None:
        """Ends the command with exit code 1 if an image was skipped."""
        if self.count:
            raise SystemExit(EXIT_FAILURE)


def find_images(arguments: Iterable[str], skipped: Skipped) -> list[str]:
    """
    Finds the images that are meant. Only what is a file, a URL or standard input is given back; whether it is an
    image shows when it is read.

    Args:
        arguments (`Iterable[str]`):
            Paths, folders (their images, not those of folders in them), globs (`**` for all depths), URLs, or `-`.
        skipped (`Skipped`):
            Takes what does not exist.

    Returns:
        `list[str]`: the images in the order they are named, each once.

    Raises:
        Failure: If there is none.
    """
    sources: dict[str, None] = {}
    for argument in arguments:
        if argument == STANDARD_INPUT or argument.startswith(URL_PREFIXES) or Path(argument).is_file():
            found = [argument]
        elif Path(argument).is_dir():
            found = _pictures_in(Path(argument))
        else:
            found = sorted(path for path in glob.glob(argument, recursive=True) if Path(path).is_file())
        if not found:
            skipped.add(argument, _nothing_found(Path(argument)))
        sources |= dict.fromkeys(found)
    if not sources:
        raise Failure("there is no image to read. Pass files, folders, globs or URLs.")
    return list(sources)


def read_image(source: str) -> "Image.Image":
    """
    Reads one image.

    Args:
        source (`str`):
            As [`find_images`] gives it.

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
        # The model's own message has advice for who is in Python, and not at a shell.
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
    Reads images in batches, the next one while the model works on the last. Of a batch only what the model needs is
    held; the full size of no more than one image.

    Args:
        sources (`Iterable[str]`):
            As [`find_images`] gives them.
        batch_size (`int`):
            Most images in a batch.
        prepare (`Callable`):
            Makes of an image what is held of it.
        skipped (`Skipped`):
            Takes the images that cannot be read.

    Yields:
        `list[tuple[str, T]]`: sources and what was prepared; never empty.
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
    Runs a function while others run.

    Args:
        function (`Callable`):
            What to run, in a thread that the end of the program does not wait for.

    Returns:
        `Callable`: waits for its result, or raises its error.
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

    Thread(target=run, daemon=True).start()  # a pool's threads are waited for, and may wait for the network themselves
    return wait


def _nothing_found(path: Path) -> str:
    if not path.is_dir():
        return "no such file"
    pattern = shlex.quote(f"{path}/**/*.png")
    return f"it contains no images, and its subfolders are not searched. To search them, pass {pattern}"


def _pictures_in(folder: Path) -> list[str]:
    from PIL import Image

    extensions = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = (path for path in folder.iterdir() if path.suffix.lower() in extensions and not path.name.startswith("."))
    return sorted(str(path) for path in files if path.is_file())


def _read_standard_input() -> bytes:
    if sys.stdin.isatty():
        raise ValueError("standard input is a terminal. Redirect an image to it, as in `lavit caption - < cat.jpg`.")
    content = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
    if len(content) > MAX_INPUT_BYTES:
        raise ValueError(f"standard input is larger than {MAX_INPUT_BYTES >> 20} MB.")
    return content

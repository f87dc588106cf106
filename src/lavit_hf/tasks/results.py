# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Prints results on stdout, as text or JSON lines, with a separate progress bar on stderr."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .printing import one_line


class Results:
    """
    Prints results as they arrive.

    Args:
        total (`int`):
            Expected number of results.
        as_json (`bool`):
            Whether to print each result as a JSON object instead of text.
        progress (`Progress`, *optional*):
            Progress bar to advance.
    """

    def __init__(self, total: int, as_json: bool, progress: Progress | None = None):
        self.total = total
        self.as_json = as_json
        self.progress = progress
        self.task = None if progress is None else progress.add_task("", total=total)

    def add(self, source: str, text: str, **fields) -> None:
        """
        Prints one result.

        Args:
            source (`str`):
                The image. Printed before the text if several results are expected.
            text (`str`):
                The result as text.
            fields:
                The result as JSON fields, besides `image`.
        """
        named = text if self.total == 1 else f"{one_line(source)}: {text}"
        self._print(named, {"image": source, **fields})

    def add_file(self, path: Path, **fields) -> None:
        """
        Prints the path of a saved image.

        Args:
            path (`Path`):
                The file.
            fields:
                Additional JSON fields, besides `output`.
        """
        self._print(one_line(str(path)), {"output": str(path), **fields})

    def _print(self, line: str, fields: dict) -> None:
        with self._bar_aside():
            print(json.dumps(fields) if self.as_json else line)
        if self.progress is not None:
            self.progress.advance(self.task)

    @contextmanager
    def _bar_aside(self) -> Iterator[None]:
        if self.progress is None:
            yield
            return
        self.progress.stop()
        yield
        self.progress.start()


@contextmanager
def show_results(total: int, as_json: bool, with_bar: bool = True) -> Iterator[Results]:
    """
    Context manager for printing results, with a progress bar if there are several and stderr is a terminal.

    Args:
        total (`int`):
            Expected number of results.
        as_json (`bool`):
            Whether to print results as JSON.
        with_bar (`bool`, *optional*, defaults to `True`):
            Whether to allow a progress bar.
    """
    with show_bar("images", with_bar and total != 1) as progress:
        yield Results(total, as_json, progress)


@contextmanager
def show_bar(unit: str, wanted: bool = True) -> Iterator[Progress | None]:
    """
    Shows a progress bar on stderr.

    Args:
        unit (`str`):
            Unit that it counts.
        wanted (`bool`, *optional*, defaults to `True`):
            Whether to show it.

    Yields:
        `Progress` or `None`: the progress bar, or `None` if stderr is not a terminal or `wanted` is false.
    """
    console = Console(stderr=True)
    if not wanted or not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        yield progress

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A note in the terminal while a model is loaded, as the imports alone take seconds."""

import sys
from pathlib import Path

from .printing import one_line


ERASE_LINE = "\r\x1b[2K"

_is_shown = False


def show_loading(repo: str) -> None:
    """
    Shows on stderr which model is being loaded, until [`hide_loading`] is called, if stderr is a terminal.

    Args:
        repo (`str`):
            A folder, whose name is shown, or a Hub id.
    """
    global _is_shown
    if sys.stderr.isatty():
        name = Path(repo).resolve().name if Path(repo).is_dir() else repo
        print(f"loading {one_line(name)}", end="", file=sys.stderr, flush=True)
        _is_shown = True


def hide_loading() -> None:
    """Erases the note of [`show_loading`], if there is one."""
    global _is_shown
    if _is_shown:
        print(ERASE_LINE, end="", file=sys.stderr, flush=True)
        _is_shown = False

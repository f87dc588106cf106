# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the user sees when something fails: one line that says how to mend it."""

import os
import sys

from .loading_note import hide_loading
from .printing import one_line


DEBUG_VARIABLE = "LAVIT_DEBUG"
EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Failure(Exception):
    """Something that the user can mend; the message says how."""


# Errors whose messages are written for users. Others are named by their type.
_EXPLAINED = (Failure, ValueError, OSError, ImportError)


def report(message: str, command: str | None = None) -> None:
    """Prints one line on stderr."""
    hide_loading()
    # Not by typer.echo, which writes into a progress bar rather than above it.
    print(f"lavit{f' {command}' if command else ''}: {one_line(message)}", file=sys.stderr)


def explain(error: Exception) -> str:
    """An error in words for users."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, _EXPLAINED) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (for a traceback, set {DEBUG_VARIABLE}=1)"


def debugging() -> bool:
    """Whether the user wants to see what is hidden otherwise."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")

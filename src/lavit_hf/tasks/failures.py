# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Errors shown to the user, as one line that says how to fix the problem."""

import os
import sys

from .loading_note import hide_loading
from .printing import one_line


DEBUG_VARIABLE = "LAVIT_DEBUG"
EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as in shells


class Failure(Exception):
    """A problem that the user can fix. The message says how."""


# Errors whose messages are written for users. For others, the type is shown too.
_EXPLAINED = (Failure, ValueError, OSError, ImportError)


def report(message: str, command: str | None = None) -> None:
    """Prints one line on stderr."""
    hide_loading()
    # typer.echo would write into a progress bar instead of above it.
    print(f"lavit{f' {command}' if command else ''}: {one_line(message)}", file=sys.stderr)


def explain(error: Exception) -> str:
    """Formats an error for users."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, _EXPLAINED) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (for a traceback, set {DEBUG_VARIABLE}=1)"


def debugging() -> bool:
    """Whether to show tracebacks and warnings that are hidden by default."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")

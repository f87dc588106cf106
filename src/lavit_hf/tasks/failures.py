# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the user sees when something fails: one line on stderr, and an exit code that scripts can rely on."""

import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import typer

from .printing import one_line


DEBUG_VARIABLE = "LAVIT_DEBUG"
EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Failure(Exception):
    """Something that the user can mend; the message says how."""


# Errors whose messages are written for users. Others are named by their type.
_EXPLAINED = (Failure, ValueError, OSError, ImportError)


def with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """
    Makes a command fail as a program does: exit code 1 and one line on stderr, 130 after Ctrl-C. With
    `LAVIT_DEBUG=1` in the environment the traceback comes as well.

    Args:
        command (`Callable`):
            The function behind a command. Its usage errors stay typer's, with exit code 2.

    Returns:
        `Callable`: the same command.
    """

    @wraps(command)
    def run(*args, **kwargs) -> None:
        try:
            with _without_warnings():
                command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # nobody reads on, as under `| head`; typer ends quietly
            report(explain(error), command.__name__)
            if _debugging():
                traceback.print_exc()
            raise typer.Exit(EXIT_FAILURE) from error

    return run


def report(message: str, command: str | None = None) -> None:
    """Prints one line on stderr."""
    # Not by typer.echo, which writes into a progress bar rather than above it.
    print(f"lavit{f' {command}' if command else ''}: {one_line(message)}", file=sys.stderr)


def explain(error: Exception) -> str:
    """An error in words for users."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, _EXPLAINED) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (for a traceback, set {DEBUG_VARIABLE}=1)"


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What libraries warn of is for developers, and hidden unless debugging."""
    if _debugging():
        yield
        return
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")

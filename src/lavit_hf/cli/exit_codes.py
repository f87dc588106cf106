# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Exit codes and error messages of commands."""

import errno
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

import typer

from ..tasks.failures import EXIT_FAILURE, EXIT_INTERRUPTED, debugging, explain, report
from ..tasks.loading_note import hide_loading


def with_exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """
    Makes a failing command exit with code 1 and one line on stderr, or with code 130 after Ctrl-C. With
    `LAVIT_DEBUG=1` in the environment, the traceback is shown too.

    Args:
        command (`Callable`):
            The function of a command. Usage errors are left to typer, with exit code 2.

    Returns:
        `Callable`: the decorated command.
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
                raise  # the reader closed the pipe, such as `| head`; typer exits quietly
            report(explain(error), command.__name__.replace("_", "-"))
            if debugging():
                traceback.print_exc()
            raise typer.Exit(EXIT_FAILURE) from error
        finally:
            hide_loading()

    return run


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Context manager that hides libraries' warnings, which are for developers, unless debugging."""
    if debugging():
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

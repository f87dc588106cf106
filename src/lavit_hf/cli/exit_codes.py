# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Commands that fail as programs do: an exit code that scripts can rely on."""

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
            report(explain(error), command.__name__.replace("_", "-"))
            if debugging():
                traceback.print_exc()
            raise typer.Exit(EXIT_FAILURE) from error
        finally:
            hide_loading()

    return run


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What libraries warn of is for developers, and hidden unless debugging."""
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

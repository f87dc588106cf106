# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The end of the program: results are written out, and the interpreter is not taken to pieces."""

import atexit
import errno
import os
import sys

from ..tasks.failures import EXIT_FAILURE, EXIT_INTERRUPTED, explain, report


class Leave:
    """
    Ends the process with the exit code that leaves the block, once all that others registered for the end was done.

    The interpreter would go through every object of torch first, for as long as a caption takes. What it does before
    that is done as ever: threads are waited for, and functions of `atexit` called, this one last as it is the first.
    """

    def __init__(self):
        self.exit_code = EXIT_FAILURE  # of an error that nothing catches
        atexit.register(self._leave)

    def __enter__(self) -> "Leave":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.exit_code = EXIT_INTERRUPTED
            raise SystemExit(EXIT_INTERRUPTED) from None
        if error is None:
            self.exit_code = 0
        elif isinstance(error, SystemExit):
            self.exit_code = _as_number(error.code)

    def _leave(self) -> None:
        try:
            sys.stdout.flush()
        except OSError as error:
            if error.errno != errno.EPIPE:  # nobody reads on, as under `| head`
                report(f"standard output: {explain(error)}")
            self.exit_code = self.exit_code or EXIT_FAILURE
        sys.stderr.flush()
        os._exit(self.exit_code)


def _as_number(code: object) -> int:
    """An exit code as `sys.exit` takes it: nothing, a number, or a message of a failure."""
    if code is None:
        return 0
    return code if isinstance(code, int) else EXIT_FAILURE

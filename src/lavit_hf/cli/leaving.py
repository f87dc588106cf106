# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Fast exit of the program: flushes results, and skips the interpreter's cleanup."""

import atexit
import errno
import os
import sys

from ..tasks.failures import EXIT_FAILURE, EXIT_INTERRUPTED, explain, report


class Leave:
    """
    Ends the process with the exit code of the block, after all functions registered with `atexit`.

    The interpreter would otherwise clean up every object of torch, which takes as long as generating a caption. The
    steps before that happen as usual: waiting for threads, and calling the functions of `atexit`, of which this one is
    last because it was registered first.
    """

    def __init__(self):
        self.exit_code = EXIT_FAILURE  # for uncaught errors
        atexit.register(self._leave)

    def __enter__(self) -> "Leave":
        return self

    def __exit__(self, error_type, error, traceback) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.exit_code = EXIT_INTERRUPTED
            raise SystemExit(EXIT_INTERRUPTED) from None
        if isinstance(error, OSError):  # while printing the help or the version; commands explain their own errors
            report(f"standard output: {explain(error)}")
            raise SystemExit(EXIT_FAILURE) from None
        if error is None:
            self.exit_code = 0
        elif isinstance(error, SystemExit):
            self.exit_code = _as_number(error.code)

    def _leave(self) -> None:
        try:
            sys.stdout.flush()
        except OSError as error:
            if error.errno != errno.EPIPE:  # the reader closed the pipe, such as `| head`
                report(f"standard output: {explain(error)}")
            self.exit_code = self.exit_code or EXIT_FAILURE
        sys.stderr.flush()
        os._exit(self.exit_code)


def _as_number(code: object) -> int:
    """Converts an argument of `sys.exit` (nothing, a number, or an error message) to an exit code."""
    if code is None:
        return 0
    return code if isinstance(code, int) else EXIT_FAILURE

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Error handling of training scripts: a one-line message and an exit code instead of a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

from .errors import TrainingError


EXIT_FAILURE = 1


def run_script(main: Callable[[], None]) -> None:
    """
    Runs a script's `main` function. Errors that the user can fix, such as an invalid run file or setting or a missing
    folder, print one line on stderr and exit with code 1. Any other error keeps its traceback.

    Args:
        main (`Callable`):
            The script's `main` function.
    """
    try:
        main()
    except (TrainingError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(EXIT_FAILURE) from None


__all__ = ["run_script"]

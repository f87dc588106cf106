# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Scripts of training that fail as programs do: one sentence and an exit code, in place of a traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

from .errors import TrainingError


EXIT_FAILURE = 1


def run_script(main: Callable[[], None]) -> None:
    """
    Runs the `main` of a script. What its user can mend, such as a run file, a setting or a folder that there is not,
    ends with one line on stderr and exit code 1; any other error keeps its traceback.

    Args:
        main (`Callable`):
            The script's.
    """
    try:
        main()
    except (TrainingError, OSError) as error:
        print(f"{Path(sys.argv[0]).name}: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(EXIT_FAILURE) from None


__all__ = ["run_script"]

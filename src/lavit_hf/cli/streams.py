# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The standard streams of a command."""

import os
import sys


def prepare_streams() -> None:
    """
    Opens standard streams that are closed, as some services start programs, and escapes characters in results that the
    encoding of standard output lacks.
    """
    # In this order. The next file to be opened would otherwise take the number of a closed stream, and also receive
    # what libraries print.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    sys.stdout.reconfigure(errors="backslashreplace")

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The program `lavit`, which is `python -m lavit_hf.cli` as well."""

import gc

from .leaving import Leave


def main() -> None:
    """Runs a command, and leaves at once when it is done."""
    # What is imported and loaded stays to the end: to look for garbage in it takes a fifth of the time of the imports.
    # It is collected again when the model is there.
    gc.disable()
    with Leave():
        from .app import app

        app(prog_name="lavit")


if __name__ == "__main__":
    main()

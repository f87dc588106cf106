# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The program `lavit`, which can also be run as `python -m lavit_hf.cli`."""

import gc

from .leaving import Leave
from .streams import prepare_streams


def main() -> None:
    """Runs a command, and exits immediately when it is done."""
    # Imported modules and loaded weights stay until the end, and collecting garbage among them would take a fifth of
    # the import time. Collection is enabled again once the model is loaded.
    gc.disable()
    prepare_streams()
    with Leave():
        from .app import app

        app(prog_name="lavit")


if __name__ == "__main__":
    main()

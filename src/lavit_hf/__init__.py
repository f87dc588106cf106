# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT for the Hugging Face ecosystem: one language model that reads and writes images."""

import sys
from pathlib import Path

import lazy_loader


# Public names are listed in `__init__.pyi` and imported lazily.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _runs_command() -> bool:
    program = Path(sys.argv[0] if sys.argv else "")
    is_script = program.stem == "lavit" and program.suffix in ("", ".exe")  # not a user's `lavit.py`
    return is_script or (str(program) == "-m" and "lavit_hf.cli" in sys.orig_argv)


# Importing the package registers LaVIT with transformers' Auto classes. The command line does so when it loads a
# model, so that `lavit --help` doesn't have to import any libraries.
if not _runs_command():
    __getattr__("register_auto_classes")()

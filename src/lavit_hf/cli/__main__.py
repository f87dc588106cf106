# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`python -m lavit_hf.cli` is `lavit`."""

from .app import app


app(prog_name="lavit")

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The package's version, in a separate module so that the build can read it without importing the rest."""

__version__ = "0.1.0.dev0"

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The package's version, where the build reads it without importing the rest."""

__version__ = "0.1.0.dev0"

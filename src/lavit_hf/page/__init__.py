# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The page of `lavit demo`, to read, generate and inspect images in the browser."""

from .serving import serve_page


__all__ = ["serve_page"]

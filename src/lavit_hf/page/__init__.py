# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The page of `lavit demo`: images are read, painted and looked into in a browser."""

from .serving import serve_page


__all__ = ["serve_page"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The server of `lavit serve`: OpenAI's chat and images APIs for one model."""

from .limits import Limits
from .serving import serve_api


__all__ = ["Limits", "serve_api"]

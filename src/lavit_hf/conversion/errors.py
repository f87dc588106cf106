# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The one error of the converter."""


class ConversionError(ValueError):
    """An original checkpoint cannot be converted; the message names the file or tensor and says what to do."""

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Errors of training, with a single message for the user."""


class TrainingError(ValueError):
    """Raised for data, settings or runs that training cannot use."""

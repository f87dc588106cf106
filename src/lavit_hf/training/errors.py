# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What training refuses or stops at, in one message for the user."""


class TrainingError(ValueError):
    """Data, settings or a run that training cannot go on with."""

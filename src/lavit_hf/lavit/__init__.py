# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The model and its preprocessing: all code that can be shipped with a repo."""

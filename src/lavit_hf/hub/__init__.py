# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Repos on the Hub: their layout, their model cards, and pushing them."""

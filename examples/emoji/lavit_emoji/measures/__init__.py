# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Figures of a checkpoint on held-out drawings and sheets."""

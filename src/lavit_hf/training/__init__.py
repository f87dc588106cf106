# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Training: what stands between LaVIT's models and transformers' `Trainer`, accelerate and datasets."""

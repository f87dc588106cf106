# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""From image tokens to pixels: detokenizer, pipeline and its stages."""

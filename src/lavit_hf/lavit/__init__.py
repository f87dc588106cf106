# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The model, from pixels to ids and back to words: all the code that may travel with a repo."""

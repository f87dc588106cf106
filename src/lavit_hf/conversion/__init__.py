# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of original LaVIT checkpoints."""

import lazy_loader


# Imported lazily, so that the command line can check its arguments without waiting for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

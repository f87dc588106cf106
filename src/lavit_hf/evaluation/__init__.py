# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of captions, answers and images, with the original's protocols and scores."""

import lazy_loader


# Imported lazily, so that the command line can check its arguments before torch is imported.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks by the original's protocols: captions, answers and images, with their scores."""

import lazy_loader


# Imported when it is asked for: the command line checks its arguments first, without waiting for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

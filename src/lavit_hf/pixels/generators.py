# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Random generators for several images: one for all, or one for each."""

import torch

from ..lavit.token_sampling import Generators


def repeat_generators(generator: Generators, times: int) -> Generators:
    """Repeats the generator of each image, so that its copies continue the same random sequence."""
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    return [source for source in generator for _ in range(times)]


def as_list(generator: Generators) -> Generators:
    """Converts several generators to a list, the only sequence that diffusers accepts."""
    return generator if generator is None or isinstance(generator, torch.Generator) else list(generator)

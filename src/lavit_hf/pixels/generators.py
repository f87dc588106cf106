# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Random generators for several images: one for all, or one for each."""

from ..lavit.token_sampling import Generators, is_shared


def repeat_generators(generator: Generators, times: int) -> Generators:
    """Repeats the generator of each image, so that its copies continue the same random sequence."""
    if is_shared(generator):
        return generator
    return [source for source in generator for _ in range(times)]


def as_list(generator: Generators) -> Generators:
    """Converts several generators to a list, the only sequence that diffusers accepts."""
    return generator if is_shared(generator) else list(generator)

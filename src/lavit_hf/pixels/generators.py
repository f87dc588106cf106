# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Random generators for several images: one for all, or one for each."""

from ..lavit.token_sampling import Generators


def check_generators(generator: Generators, num_pictures: int) -> None:
    """Raises a `ValueError` if a list of generators does not have one for each image."""
    if isinstance(generator, list) and len(generator) != num_pictures:
        raise ValueError(
            f"there are {len(generator)} generators for {num_pictures} images. Pass one, or one for each image."
        )


def repeat_generators(generator: Generators, times: int) -> Generators:
    """Repeats the generator of each image, so that its copies continue the same random sequence."""
    if not isinstance(generator, list):
        return generator
    return [source for source in generator for _ in range(times)]


def as_list(generator: Generators) -> Generators:
    """Converts a tuple of generators to a list, the only sequence that diffusers accepts."""
    return list(generator) if isinstance(generator, tuple) else generator

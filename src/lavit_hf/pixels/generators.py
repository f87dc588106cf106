# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generators of several images: one for all, or one for each."""

from ..lavit.token_sampling import Generators


def check_generators(generator: Generators, num_pictures: int) -> None:
    """Raises a `ValueError` if there is a list of generators that has not one for each image."""
    if isinstance(generator, list) and len(generator) != num_pictures:
        raise ValueError(
            f"there are {len(generator)} generators for {num_pictures} images. Pass one, or one for each image."
        )


def repeat_generators(generator: Generators, times: int) -> Generators:
    """Generators for every image several times, one after the other, which draw on from the image's own."""
    if not isinstance(generator, list):
        return generator
    return [source for source in generator for _ in range(times)]

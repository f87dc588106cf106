# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Where draws come from: generators, also for code that takes none, such as transformers' `generate`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


Generators = torch.Generator | list[torch.Generator] | None


@contextmanager
def seeded(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """
    Draws inside come from `generator`, and the caller's global random state is afterwards what it was before.

    One number is drawn from the generator and seeds the global generators of the CPU and of `device`. Apple's MPS
    backend has no state that can be put back: it is seeded, and stays so.

    Args:
        generator (`torch.Generator`, *optional*):
            The source. Without it nothing is done, and draws come from the global state as usual.
        device (`torch.device`):
            Where the draws are made.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    accelerator = torch.get_device_module(device)
    forked = range(accelerator.device_count()) if device.type != "mps" else ()
    with torch.random.fork_rng(forked, device_type=device.type):
        torch.default_generator.manual_seed(seed)
        getattr(accelerator, "manual_seed_all", accelerator.manual_seed)(seed)
        yield


def check_generators(generator: Generators, num_pictures: int) -> None:
    """Raises a `ValueError` if there is a list of generators that has not one for each picture."""
    if isinstance(generator, list) and len(generator) != num_pictures:
        raise ValueError(
            f"there are {len(generator)} generators for {num_pictures} pictures: pass one, or one for each picture."
        )


def repeat_generators(generator: Generators, times: int) -> Generators:
    """Generators for every picture several times, one after the other, which draw on from the picture's own."""
    if not isinstance(generator, list):
        return generator
    return [source for source in generator for _ in range(times)]

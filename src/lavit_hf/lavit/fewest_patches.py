# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The search for the smallest sufficient number of patches, used by `keep_error`."""

from collections.abc import Callable

import torch


COUNTS_PER_PASS = 8  # numbers of patches tested at once


def find_fewest(
    log_odds: torch.Tensor, errors_of: Callable[[torch.Tensor], torch.Tensor], most_error: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Searches for the smallest number of patches of an image, ranked by log-odds, whose error is small enough.

    First tests eight evenly spaced numbers at once, then up to seven numbers between the smallest sufficient one and
    the one before it. This gives a resolution of 1 for 64 patches, and of 4 for 256. Since the error doesn't
    necessarily decrease with each additional patch, the result is the smallest sufficient number that was tested, but
    not always the smallest one overall.

    Args:
        log_odds (`torch.Tensor` of shape `(num_patches,)`):
            The selector's log-odds.
        errors_of (`Callable`):
            Function that computes the errors `(num_masks,)` of masks `(num_masks, num_patches)`.
        most_error (`float`):
            The maximum error.

    Returns:
        The mask `(num_patches,)` and its error, a scalar. If no tested number is sufficient, the mask keeps all
        patches.
    """
    num_patches = len(log_odds)
    ranks = log_odds.argsort(descending=True, stable=True).argsort()

    def measure(counts: list[int]) -> torch.Tensor:
        return errors_of(ranks < torch.tensor(counts, device=ranks.device)[:, None])

    counts = _spread(0, num_patches)
    errors = measure(counts)
    place = _first_enough(errors, most_error)
    if place is None:
        return torch.ones_like(ranks, dtype=torch.bool), errors[-1]
    fewest, error = counts[place], errors[place]
    between = _spread(counts[place - 1] if place else 0, fewest)[:-1]
    if between:
        errors = measure(between)
        place = _first_enough(errors, most_error)
        if place is not None:
            fewest, error = between[place], errors[place]
    return ranks < fewest, error


def _spread(low: int, high: int) -> list[int]:
    """Returns up to eight evenly spaced numbers above `low`, ending with `high`."""
    steps = range(1, COUNTS_PER_PASS + 1)
    return sorted({low + -(-step * (high - low) // COUNTS_PER_PASS) for step in steps})


def _first_enough(errors: torch.Tensor, most_error: float) -> int | None:
    enough = (errors <= most_error).nonzero()
    return int(enough[0]) if len(enough) else None


__all__ = ["COUNTS_PER_PASS", "find_fewest"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How few patches of an image are enough: the search behind `keep_error`."""

from collections.abc import Callable

import torch


COUNTS_PER_PASS = 8  # numbers of patches that are tried at once


def find_fewest(
    log_odds: torch.Tensor, errors_of: Callable[[torch.Tensor], torch.Tensor], most_error: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Searches the fewest patches of one image, the best by their log-odds, that leave no more than an error.

    Eight numbers are tried at once, evenly spread over all; then those between the smallest that was enough and the
    one before it, eight steps apart again: of 64 patches every number, of 256 every fourth. The error need not fall
    with each patch more. What is found is the smallest number tried that is enough, and not by proof the smallest.

    Args:
        log_odds (`torch.Tensor` of shape `(num_patches,)`):
            The selector's.
        errors_of (`Callable`):
            Gives the errors `(num_masks,)` of masks `(num_masks, num_patches)`.
        most_error (`float`):
            What is enough.

    Returns:
        The mask `(num_patches,)`, of all patches where no number that was tried is enough, and its error, a scalar.
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
    """Up to eight numbers above `low`, evenly spread, of which `high` is the last."""
    steps = range(1, COUNTS_PER_PASS + 1)
    return sorted({low + -(-step * (high - low) // COUNTS_PER_PASS) for step in steps})


def _first_enough(errors: torch.Tensor, most_error: float) -> int | None:
    enough = (errors <= most_error).nonzero()
    return int(enough[0]) if len(enough) else None


__all__ = ["COUNTS_PER_PASS", "find_fewest"]

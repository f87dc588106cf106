# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
How many patches one call keeps of an image: the dial from tokens to quality. Nothing heavy is imported, as the command
line checks its options by this before it loads anything.
"""

from typing import TypedDict


KEEP_SETTINGS = ("keep_threshold", "keep_ratio", "keep_error")


class KeepSettings(TypedDict, total=False):
    """
    What a call may say in place of the rule `config.selection`; at most one of the three is not `None`.

    Args:
        keep_threshold (`float`, *optional*):
            Keep the patches whose probability, by the selector, is higher than this; between 0 and 1.
        keep_ratio (`float`, *optional*):
            Keep this share of the patches, the best by the selector's log-odds; above 0, at most 1.
        keep_error (`float`, *optional*):
            Keep the fewest of the best patches from which the detokenizer rebuilds the encoder's features with at most
            this error, which is 1 minus the mean cosine over the patches; between 0 and 1.
    """

    keep_threshold: float | None
    keep_ratio: float | None
    keep_error: float | None


def check_keep_range(name: str, value: float) -> None:
    """Raises a `ValueError` if a setting of [`KeepSettings`] is out of its range."""
    if name == "keep_ratio" and not 0 < value <= 1:
        raise ValueError(f"keep_ratio must lie in (0, 1], got {value}.")
    if name != "keep_ratio" and not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}.")


def check_keep_settings(**settings: float | None) -> KeepSettings:
    """
    Checks what a call says of the patches to keep.

    Args:
        settings:
            Those of [`KeepSettings`], and what else decides in their place, as a `keep_mask`. `None` says nothing.

    Returns:
        [`KeepSettings`]: what is said.

    Raises:
        ValueError: If more than one is said, or a setting is no number or out of its range.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} each decide which patches are kept. Pass only one of them.")
    known = {name: value for name, value in given.items() if name in KEEP_SETTINGS}
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number, got {value!r}.")
        check_keep_range(name, value)
    return known


__all__ = ["KEEP_SETTINGS", "KeepSettings", "check_keep_range", "check_keep_settings"]

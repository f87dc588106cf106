# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Settings for how many patches a call keeps, which trade the number of tokens against quality. Imports nothing heavy,
because the command line uses this module to check its options before loading anything.
"""

from numbers import Real
from typing import TypedDict


KEEP_SETTINGS = ("keep_threshold", "keep_ratio", "keep_error")


class KeepSettings(TypedDict, total=False):
    """
    Settings of a call that override the rule in `config.selection`. At most one of the three can be set.

    Args:
        keep_threshold (`float`, *optional*):
            Keep patches with a keep probability above this; between 0 and 1.
        keep_ratio (`float`, *optional*):
            Keep this fraction of the patches, those with the highest log-odds; above 0, at most 1.
        keep_error (`float`, *optional*):
            Keep as few of the best patches as possible such that the detokenizer reconstructs the encoder's features
            with at most this error, 1 minus the mean cosine similarity over all patches; between 0 and 1.
    """

    keep_threshold: float | None
    keep_ratio: float | None
    keep_error: float | None


def check_keep_range(name: str, value: float) -> None:
    """Raises a `ValueError` if a setting of [`KeepSettings`] is out of range."""
    if name == "keep_ratio" and not 0 < value <= 1:
        raise ValueError(f"keep_ratio must lie in (0, 1], got {value}.")
    if name != "keep_ratio" and not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}.")


def check_keep_settings(**settings: float | None) -> KeepSettings:
    """
    Checks the settings of a call that decide which patches to keep.

    Args:
        settings:
            Those of [`KeepSettings`], and others with the same purpose, such as `keep_mask`. `None` means not set.

    Returns:
        [`KeepSettings`]: The settings that are set.

    Raises:
        ValueError: If more than one is set, or a setting isn't a number or is out of range.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} each decide which patches are kept. Pass only one of them.")
    known = {name: value for name, value in given.items() if name in KEEP_SETTINGS}
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"{name} must be a number, got {value!r}.")
        check_keep_range(name, value)
    return known


__all__ = ["KEEP_SETTINGS", "KeepSettings", "check_keep_range", "check_keep_settings"]

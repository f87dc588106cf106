# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The kept patches of an image, for results."""

from typing import Any, NamedTuple

import torch
from transformers.utils import ModelOutput

from .failures import report


class KeptPatches(NamedTuple):
    """
    The kept patches of an image.

    Args:
        mask (`torch.BoolTensor` of shape `(num_patches,)`):
            True for kept patches.
        rebuild_error (`float`, *optional*):
            If `keep_error` was set, the error with the kept patches.
        reaches_keep_error (`bool`, *optional*):
            If `keep_error` was set, whether it is reached.
    """

    mask: torch.Tensor
    rebuild_error: float | None = None
    reaches_keep_error: bool | None = None

    @classmethod
    def of(cls, outputs: ModelOutput) -> list["KeptPatches"]:
        """Returns the kept patches of each image from a model's output."""
        masks = outputs.keep_mask.cpu()
        if outputs.get("rebuild_errors") is None:
            return [cls(mask) for mask in masks]
        return [*map(cls, masks, outputs.rebuild_errors.tolist(), outputs.reaches_keep_error.tolist())]

    @property
    def count(self) -> int:
        """Number of kept patches."""
        return int(self.mask.sum())

    def fields(self) -> dict[str, Any]:
        """Returns the fields for JSON."""
        counts = {"kept": self.count, "patches": len(self.mask)}
        if self.rebuild_error is None:
            return counts
        return counts | {"rebuild_error": self.rebuild_error, "reaches_keep_error": self.reaches_keep_error}

    def report_if_not_reached(self, source: str) -> None:
        """Reports on stderr if the requested error is not reached and therefore all patches are kept."""
        if self.reaches_keep_error is False:
            error = f"{self.rebuild_error:.2f}"
            report(f"{source}: the error is {error} even with all {len(self.mask)} patches, so all of them are kept.")

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What is asked of a model: one sample for each caption, answer or prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Sample:
    """
    One thing to write or to paint.

    Args:
        id (`str`):
            What the benchmark calls it.
        picture (`str`, *optional*):
            Its image, as [`Samples.read`] takes it. Where images are painted, the real one to compare with.
        text (`str`, *optional*):
            The question, or the prompt to paint.
        references (`tuple[str, ...]`, *optional*):
            What people wrote: captions, or the answers of annotators.
        kind (`str`, *optional*):
            What its score is told apart by.
        metadata (`dict`, *optional*):
            What a scorer outside wants to be given back.
    """

    id: str
    picture: str | None = None
    text: str | None = None
    references: tuple[str, ...] = ()
    kind: str | None = None
    metadata: dict[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Samples:
    """
    The samples of a benchmark.

    Args:
        rows (`Sequence[Sample]`):
            The samples, in the order of the results.
        read (`Callable`, *optional*):
            Reads an image; raises a `ValueError` where it is broken.
    """

    rows: Sequence[Sample]
    read: "Callable[[str], Image.Image] | None" = None

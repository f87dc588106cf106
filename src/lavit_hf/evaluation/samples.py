# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Samples of a benchmark, one for each caption, answer or prompt."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Sample:
    """
    A text or image to generate.

    Args:
        id (`str`):
            Its id in the benchmark.
        picture (`str`, *optional*):
            Its image, as an argument of [`Samples.read`]. For generated images, the real image to compare with.
        text (`str`, *optional*):
            The question, or the prompt of an image.
        references (`tuple[str, ...]`, *optional*):
            Human captions, or the annotators' answers.
        kind (`str`, *optional*):
            Category for which scores are reported separately.
        metadata (`dict`, *optional*):
            Data to pass on to an external scorer.
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
            Reads an image. Raises a `ValueError` if it cannot be read.
        read_bytes (`Callable`, *optional*):
            Reads the file of an image without decoding it. Raises an `OSError` or a `ValueError` if there is none.
    """

    rows: Sequence[Sample]
    read: "Callable[[str], Image.Image] | None" = None
    read_bytes: Callable[[str], bytes] | None = None

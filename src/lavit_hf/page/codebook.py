# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What an entry of the codebook stands for: its neighbors, and the patches that got it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..tasks.failures import Failure
from .inspection import Inspection
from .model import PageModel


MOST_OF_ONE_PICTURE = 2


@dataclass(frozen=True)
class Match:
    """
    A code beside the chosen one.

    Args:
        code (`int`):
            The code.
        similarity (`float`):
            Cosine between the two rows of the codebook.
        inspection (`Inspection`, *optional*):
            The image in which it stands for a patch.
        patch (`int`, *optional*):
            That patch.
    """

    code: int
    similarity: float
    inspection: Inspection | None = None
    patch: int | None = None


@torch.no_grad()
def compare_codes(model: PageModel, code: int) -> torch.Tensor:
    """
    How near all codes are to one.

    Args:
        model (`PageModel`):
            The model.
        code (`int`):
            The code.

    Returns:
        `torch.Tensor` of shape `(codebook_size,)`: cosines between the rows of the codebook, in fp32 on the CPU.

    Raises:
        Failure: If there is no such code.
    """
    size = model.visual_tokenizer.config.codebook_size
    if not 0 <= code < size:
        raise Failure(f"there is no code {code}. Codes run from 0 to {size - 1}.")
    rows = torch.nn.functional.normalize(model.visual_tokenizer.quantizer.codebook.weight.float().cpu(), dim=-1)
    return rows @ rows[code]


def nearest_codes(similarities: torch.Tensor, code: int, count: int) -> list[Match]:
    """The code itself, and the `count` codes that are nearest to it."""
    order = [other for other in similarities.argsort(descending=True).tolist() if other != code]
    return [Match(other, float(similarities[other])) for other in (code, *order[:count])]


def nearest_patches(similarities: torch.Tensor, inspections: Sequence[Inspection], count: int) -> list[Match]:
    """
    The patches whose codes are nearest to a code, those that got the code itself in front.

    Args:
        similarities (`torch.Tensor` of shape `(codebook_size,)`):
            What [`compare_codes`] gave for it.
        inspections (`Sequence[Inspection]`):
            The images to search.
        count (`int`):
            How many patches.

    Returns:
        `list[Match]`: of one image a few only, so that it does not hide the others.
    """
    matches = []
    for inspection in inspections:
        own = [
            Match(code, float(similarities[code]), inspection, patch)
            for patch, code in zip(inspection.kept, inspection.codes)
        ]
        matches += sorted(own, key=_likeness)[:MOST_OF_ONE_PICTURE]
    return sorted(matches, key=_likeness)[:count]


def _likeness(match: Match) -> float:
    return -match.similarity

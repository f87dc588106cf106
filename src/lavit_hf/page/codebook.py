# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The meaning of a code: its neighbors in the codebook, and the patches that it stands for."""

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
    A code compared with the chosen one.

    Args:
        code (`int`):
            The code.
        similarity (`float`):
            Cosine similarity between the two rows of the codebook.
        inspection (`Inspection`, *optional*):
            An image with a patch that the code stands for.
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
    Computes the similarity of all codes to one code.

    Args:
        model (`PageModel`):
            The model.
        code (`int`):
            The code.

    Returns:
        `torch.Tensor` of shape `(codebook_size,)`: cosine similarities of the codebook's rows, in fp32 on the CPU.

    Raises:
        Failure: If the code does not exist.
    """
    size = model.visual_tokenizer.config.codebook_size
    if not 0 <= code < size:
        raise Failure(f"there is no code {code}. Codes run from 0 to {size - 1}.")
    rows = torch.nn.functional.normalize(model.visual_tokenizer.quantizer.codebook.weight.float().cpu(), dim=-1)
    return rows @ rows[code]


def nearest_codes(similarities: torch.Tensor, code: int, count: int) -> list[Match]:
    """Returns the code itself and the `count` codes nearest to it."""
    order = [other for other in similarities.argsort(descending=True).tolist() if other != code]
    return [Match(other, float(similarities[other])) for other in (code, *order[:count])]


def nearest_patches(similarities: torch.Tensor, inspections: Sequence[Inspection], count: int) -> list[Match]:
    """
    Finds the patches whose codes are nearest to a code. Those with the code itself come first.

    Args:
        similarities (`torch.Tensor` of shape `(codebook_size,)`):
            Output of [`compare_codes`] for the code.
        inspections (`Sequence[Inspection]`):
            The images to search.
        count (`int`):
            Maximum number of patches.

    Returns:
        `list[Match]`: only a few per image, so that a single image does not dominate.
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

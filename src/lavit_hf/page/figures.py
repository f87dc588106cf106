# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Figures of the *Look inside* tab: codes of patches, keep probabilities, and single patches."""

import math

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..visualization import OUTLINE_COLOR, draw_keep_mask
from .inspection import Inspection


GRID_SIZE = 1024  # side in pixels
PATCH_SIZE = 192  # side of a patch with its surroundings, in pixels
DARK = (96, 96, 96)  # color of white in patches with a keep probability of 0


def draw_codes(inspection: Inspection) -> Image.Image:
    """Draws the kept patches with their codes."""
    drawing = draw_keep_mask(inspection.square, inspection.keep_mask, size=GRID_SIZE)
    draw = ImageDraw.Draw(drawing)
    digits = max(len(str(code)) for code in inspection.codes)
    font = ImageFont.load_default(_length(inspection, GRID_SIZE) / (0.75 * max(digits, 3)))
    for patch, code in zip(inspection.kept, inspection.codes):
        left, top, right, bottom = _box(inspection, patch, GRID_SIZE)
        middle = ((left + right) / 2, (top + bottom) / 2)
        draw.text(middle, str(code), "white", font, anchor="mm", stroke_width=font.size / 12, stroke_fill="black")
    return drawing


def draw_probabilities(inspection: Inspection) -> Image.Image:
    """Draws the keep probabilities of patches, from dark (lowest of the image) to bright (highest)."""
    side = _side(inspection)
    probabilities = inspection.keep_probabilities.reshape(side, side)
    low, high = probabilities.aminmax()
    spread = (probabilities - low) / (high - low).clamp(min=1e-6)
    heat = Image.fromarray((spread * 255).round().to(torch.uint8).numpy())
    grey = ImageOps.grayscale(inspection.square)
    bright, dark = ImageOps.colorize(grey, "black", OUTLINE_COLOR), ImageOps.colorize(grey, "black", DARK)
    return Image.composite(bright, dark, heat.resize(grey.size, Image.Resampling.NEAREST))


def draw_patch(inspection: Inspection, patch: int) -> Image.Image:
    """Draws a patch with an outline and its surroundings."""
    size = inspection.square.width
    length = _length(inspection, size)
    box = _box(inspection, patch, size)
    # Three patches wide, shifted to stay within the image.
    x, y = (min(max(0.0, place - length), size - 3 * length) for place in box[:2])
    drawing = inspection.square.resize(
        (PATCH_SIZE, PATCH_SIZE), Image.Resampling.BICUBIC, box=(x, y, x + 3 * length, y + 3 * length)
    )
    scale = PATCH_SIZE / (3 * length)
    outline = [(place - origin) * scale for place, origin in zip(box, (x, y, x, y))]
    ImageDraw.Draw(drawing).rectangle(outline, outline=OUTLINE_COLOR, width=3)
    return drawing


def patch_at(inspection: Inspection, x: float, y: float) -> int:
    """Returns the patch at a position in the figure of [`draw_codes`]."""
    side, length = _side(inspection), _length(inspection, GRID_SIZE)
    column, row = (min(side - 1, max(0, int(place / length))) for place in (x, y))
    return row * side + column


def _box(inspection: Inspection, patch: int, size: int) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of a patch in a figure that is `size` pixels wide."""
    row, column = divmod(patch, _side(inspection))
    length = _length(inspection, size)
    return column * length, row * length, (column + 1) * length, (row + 1) * length


def _length(inspection: Inspection, size: int) -> float:
    """Returns the side of a patch in a figure that is `size` pixels wide."""
    return size / _side(inspection)


def _side(inspection: Inspection) -> int:
    """Returns the number of patches per row."""
    return math.isqrt(len(inspection.keep_mask))

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Creates training views of a drawing: unmodified, and with a different style, a colored background or lower quality.

The name of the drawing stays correct in each view: a red apple keeps its color, and a left-facing fist its direction.
"""

import random
import re
from collections.abc import Iterator, Mapping

import torch
from PIL import Image, ImageChops
from torchvision.transforms import v2

from .effects import as_jpeg, blurred, grey, line_drawing, on_paper, outlined
from .papers import random_paper
from .texts import COLORS


SIDED = re.compile(r"\b(left|right|leftwards|rightwards)\b")  # names that would be wrong for a mirrored drawing
COLORFUL = re.compile(rf"\b({COLORS}|rainbow)\b")  # names that would be wrong for other colors

MOVED = v2.RandomAffine(
    degrees=12,
    translate=(0.1, 0.1),
    scale=(0.7, 1.1),
    interpolation=v2.InterpolationMode.BILINEAR,
    fill=255,
)
TINTED = v2.ColorJitter(brightness=(0.75, 1.1), contrast=(0.8, 1.15), saturation=0.4, hue=0.04)
TINTED_LITTLE = v2.ColorJitter(brightness=(0.85, 1.1), contrast=0.1, saturation=0.2, hue=0.01)

GREY, OUTLINED, LINES = 0.1, 0.15, 0.05  # shares of views; the others are only tinted
PAPER, BLUR, JPEG = 0.3, 0.15, 0.2  # shares of all views


def views(row: Mapping, number: int, seed: int) -> Iterator[Image.Image]:
    """
    Yields views of a row's drawing, which are the same for the same seed.

    Args:
        row (`Mapping`):
            A row with `image`, `name` and optionally `mask`. Without a mask, the background stays white.
        number (`int`): Number of views; the first is the drawing itself.
        seed (`int`): Seed of the other views.

    Returns:
        `Iterator[PIL.Image.Image]`: The views, RGB and of the same size as the drawing.
    """
    drawing = row["image"].convert("RGB")
    yield drawing
    mask = row.get("mask") or Image.new("L", drawing.size, 255)
    chance = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(number - 1):
            yield _view(drawing, mask, row["name"], chance)


def _view(image: Image.Image, mask: Image.Image, name: str, chance: random.Random) -> Image.Image:
    if chance.random() < 0.5 and not SIDED.search(name):
        image, mask = (layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for layer in (image, mask))
    image, uncovered = MOVED(image, ImageChops.invert(mask))  # both are 255 where nothing is drawn
    image, mask = _by_another_hand(image, ImageChops.invert(uncovered), bool(COLORFUL.search(name)), chance)
    if chance.random() < PAPER:
        image = on_paper(image, mask, random_paper(chance))
    if chance.random() < BLUR:
        image = blurred(image, chance.uniform(0.5, 1.5))
    if chance.random() < JPEG:
        image = as_jpeg(image, chance.randint(25, 80))
    return image


def _by_another_hand(
    image: Image.Image, mask: Image.Image, colorful: bool, chance: random.Random
) -> tuple[Image.Image, Image.Image]:
    """Gray, outlined, as a line drawing, or only tinted; colors that are in the name are preserved."""
    hand = chance.random()
    if not colorful and hand < LINES:
        return line_drawing(image, mask)
    if not colorful and hand < LINES + GREY:
        return grey(image), mask
    if hand >= 1 - OUTLINED:
        image, mask = outlined(image, mask)
    return (TINTED_LITTLE if colorful else TINTED)(image), mask

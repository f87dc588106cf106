# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Views of a drawing to train on: as it is, and as another hand, another paper or a bad copy might show it.

What the drawing is called stays true of every view: a red apple keeps its color, and a left-facing fist its side.
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


SIDED = re.compile(r"\b(left|right|leftwards|rightwards)\b")  # drawings whose name would be wrong in a mirror
COLORFUL = re.compile(rf"\b({COLORS}|rainbow)\b")  # drawings whose name would be wrong in other colors

MOVED = v2.RandomAffine(
    degrees=12,
    translate=(0.1, 0.1),
    scale=(0.7, 1.1),
    interpolation=v2.InterpolationMode.BILINEAR,
    fill=255,
)
TINTED = v2.ColorJitter(brightness=(0.75, 1.1), contrast=(0.8, 1.15), saturation=0.4, hue=0.04)
TINTED_LITTLE = v2.ColorJitter(brightness=(0.85, 1.1), contrast=0.1, saturation=0.2, hue=0.01)

GREY, OUTLINED, LINES = 0.1, 0.15, 0.05  # shares of views; the others keep the artist's hand
PAPER, BLUR, JPEG = 0.3, 0.15, 0.2  # shares of views, whatever the hand


def views(row: Mapping, number: int, seed: int) -> Iterator[Image.Image]:
    """
    Gives views of a row's drawing, the same for the same seed.

    Args:
        row (`Mapping`):
            A row, of which `image`, `name` and, where there is one, `mask` are read. Without a mask the paper stays.
        number (`int`): How many views; the first is the drawing as it is.
        seed (`int`): Seed of the others.

    Returns:
        `Iterator[PIL.Image.Image]`: The views, RGB and as large as the drawing.
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
    image, uncovered = MOVED(image, ImageChops.invert(mask))  # both are 255 where there is nothing
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
    """Grey, with outlines, as lines alone, or only tinted; colors that are in the name are kept."""
    hand = chance.random()
    if not colorful and hand < LINES:
        return line_drawing(image, mask)
    if not colorful and hand < LINES + GREY:
        return grey(image), mask
    if hand >= 1 - OUTLINED:
        image, mask = outlined(image, mask)
    return (TINTED_LITTLE if colorful else TINTED)(image), mask

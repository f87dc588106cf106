# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Colors: named colors for recoloring drawings, and random background colors."""

import colorsys
import random
from collections.abc import Iterable

import numpy as np
from PIL import Image


WORDS = {
    "red": (214, 28, 32),
    "orange": (245, 130, 20),
    "yellow": (246, 209, 28),
    "green": (38, 150, 58),
    "blue": (30, 95, 215),
    "purple": (125, 45, 165),
    "pink": (245, 125, 175),
    "brown": (120, 72, 36),
    "grey": (128, 128, 128),
    "black": (28, 28, 28),
}
SHADE = 0.65  # the darkest shade of a recolored drawing, as a share of its color
SHINE = 0.35  # the lightest shade, as a share of the distance to white
APART = 90  # minimum Euclidean distance in RGB for a color to stand out from the background
TRIES = 100  # background colors to try before using the one with the largest distance
BLACK = (0, 0, 0)
FLAT = 24  # drawings with at most this range of gray levels have no shading


def random_paper(chance: random.Random, avoid: Iterable[tuple[float, float, float]] = ()) -> tuple[int, int, int]:
    """
    Draws a random background color: any hue and saturation, but light enough for black lines.

    Args:
        chance (`random.Random`): Random number generator.
        avoid (`Iterable[tuple[float, float, float]]`, *optional*): Colors that must stand out from it.

    Returns:
        `tuple[int, int, int]`: RGB, from 0 to 255.
    """
    avoid = np.array(list(avoid) or [BLACK])
    tried = []
    for _ in range(TRIES):
        hue, saturation, value = chance.random(), chance.uniform(0.05, 0.6), chance.uniform(0.75, 1.0)
        paper = tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
        tried.append((float(np.linalg.norm(avoid - paper, axis=1).min()), paper))
        if tried[-1][0] >= APART:
            break
    return max(tried)[1]


def recolor(image: Image.Image, mask: Image.Image, word: str) -> Image.Image:
    """
    Gives a drawing a single color, with its original shading.

    Args:
        image (`PIL.Image.Image`): The drawing on white, RGB.
        mask (`PIL.Image.Image`): Opacity of each pixel, in gray levels.
        word (`str`): Name of the color, one of [`WORDS`].

    Returns:
        `PIL.Image.Image`: The drawing on white, RGB.

    Raises:
        `ValueError`: If the color is unknown.
    """
    if word not in WORDS:
        raise ValueError(f"There is no color for the word {word!r}. Use one of {', '.join(WORDS)}.")
    covered = np.asarray(mask, dtype=np.float32)[..., None] / 255
    light = np.asarray(image.convert("L"), dtype=np.float32)[..., None]
    light = np.where(covered > 0, 255 - (255 - light) / np.maximum(covered, 1e-3), 255).clip(0, 255)  # of the ink
    inside = light[covered > 0.5]
    low, middle, high = np.percentile(inside, (5, 50, 95)) if inside.size else (0, 0, 0)
    if high - low <= FLAT:
        level = np.zeros_like(light)
    else:
        level = np.interp(light, (low, middle, high), (-1, 0, 1)) if low < middle < high else _spread(light, low, high)
    color = np.array(WORDS[word], dtype=np.float32)
    ink = color * (1 - (1 - SHADE) * np.maximum(-level, 0)) + (255 - color) * SHINE * np.maximum(level, 0)
    return Image.fromarray((255 + covered * (ink - 255)).round().clip(0, 255).astype(np.uint8))


def _spread(light: np.ndarray, low: float, high: float) -> np.ndarray:
    """From -1 (darkest) to 1 (lightest), for drawings of which more than half is one or the other."""
    return (2 * (light - low) / (high - low) - 1).clip(-1, 1)

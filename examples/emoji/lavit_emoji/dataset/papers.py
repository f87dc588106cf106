# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Colors: those that a drawing can be given and a word names, and those of the paper behind it."""

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
SHADE = 0.65  # the darkest that a recolored drawing gets, as a share of its color
SHINE = 0.35  # the lightest, as a share of the way to white
APART = 90  # Euclidean distance in RGB from which a color stands out from paper
TRIES = 100  # papers looked at before the one that stands out most is taken
BLACK = (0, 0, 0)
FLAT = 24  # grey levels between the darkest and the lightest of a drawing up to which it has no shading


def random_paper(chance: random.Random, avoid: Iterable[tuple[float, float, float]] = ()) -> tuple[int, int, int]:
    """
    Draws the color of a sheet of paper: of any hue, pale or full, but light enough for black lines.

    Args:
        chance (`random.Random`): Where chance comes from.
        avoid (`Iterable[tuple[float, float, float]]`, *optional*): Colors that are to stand out from it.

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
    Gives a drawing one color and keeps its shading.

    Args:
        image (`PIL.Image.Image`): The drawing on white, RGB.
        mask (`PIL.Image.Image`): How much of each pixel is covered, in grey levels.
        word (`str`): One of [`WORDS`].

    Returns:
        `PIL.Image.Image`: The drawing on white, RGB.

    Raises:
        `ValueError`: If the word is none of those.
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
    """From -1 for the darkest to 1 for the lightest, where more than half of a drawing is the one or the other."""
    return (2 * (light - low) / (high - low) - 1).clip(-1, 1)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What can be done to a drawing: other paper, outlines, lines alone, grey, blur and JPEG.

A drawing is an image on white with a mask that says how much of each pixel is covered, as `prepare.py` makes them.
"""

import io

import numpy as np
from PIL import Image, ImageChops, ImageFilter


EDGE = 40  # grey levels between neighbors from which a line is drawn
WHITE = (255, 255, 255)


def on_paper(image: Image.Image, mask: Image.Image, paper: tuple[int, int, int]) -> Image.Image:
    """
    Lays a drawing on paper of another color: exact, as the white in half-covered pixels is known.

    Args:
        image (`PIL.Image.Image`): The drawing on white, RGB.
        mask (`PIL.Image.Image`): How much of each pixel is covered, in grey levels.
        paper (`tuple[int, int, int]`): The color.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    uncovered = 1 - np.asarray(mask, dtype=np.float32)[..., None] / 255
    pixels = np.asarray(image, dtype=np.float32) + uncovered * (np.array(paper, dtype=np.float32) - 255)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def lines(image: Image.Image, mask: Image.Image, width: int = 3) -> Image.Image:
    """
    The lines of a drawing: its contour and where its colors change, 255 on a line and 0 elsewhere.

    Args:
        image (`PIL.Image.Image`): The drawing on white, RGB.
        mask (`PIL.Image.Image`): How much of each pixel is covered, in grey levels.
        width (`int`, *optional*, defaults to 3): Their width in pixels, an odd number.

    Returns:
        `PIL.Image.Image`: Grey.
    """
    edges = _gradient(image.convert("L").filter(ImageFilter.MedianFilter(3)), width)
    return ImageChops.lighter(edges.point(lambda level: 255 if level >= EDGE else 0), _gradient(mask, width))


def outlined(image: Image.Image, mask: Image.Image, width: int = 3) -> tuple[Image.Image, Image.Image]:
    """The drawing with its lines in black, and its mask, which the contour widens; see [`lines`]."""
    drawn = lines(image, mask, width)
    return _inked(image, drawn), ImageChops.lighter(mask, drawn)


def line_drawing(image: Image.Image, mask: Image.Image, width: int = 3) -> tuple[Image.Image, Image.Image]:
    """The lines of the drawing alone, black on white, and where they are; see [`lines`]."""
    drawn = lines(image, mask, width)
    return _inked(Image.new("RGB", image.size, WHITE), drawn), drawn


def grey(image: Image.Image) -> Image.Image:
    """The image without its colors, still RGB."""
    return image.convert("L").convert("RGB")


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """The image out of focus by a Gaussian of `radius` pixels."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image as it looks after JPEG of a quality from 1 to 95."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _gradient(layer: Image.Image, width: int) -> Image.Image:
    return ImageChops.difference(
        layer.filter(ImageFilter.MaxFilter(width)), layer.filter(ImageFilter.MinFilter(width))
    )


def _inked(image: Image.Image, drawn: Image.Image) -> Image.Image:
    return Image.composite(Image.new("RGB", image.size), image, drawn)

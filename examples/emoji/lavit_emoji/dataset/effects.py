# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Effects for drawings: colored background, outlines, line drawing, gray, blur and JPEG.

A drawing is an image on a white background, with a mask that contains the opacity of each pixel (see `prepare.py`).
"""

import io

import numpy as np
from PIL import Image, ImageChops, ImageFilter


EDGE = 40  # minimum difference between adjacent pixels for a line, in gray levels
WHITE = (255, 255, 255)


def on_paper(image: Image.Image, mask: Image.Image, paper: tuple[int, int, int]) -> Image.Image:
    """
    Places a drawing on a colored background. The result is exact, because the mask contains the white part of each
    pixel.

    Args:
        image (`PIL.Image.Image`): The drawing on white, RGB.
        mask (`PIL.Image.Image`): Opacity of each pixel, in gray levels.
        paper (`tuple[int, int, int]`): Color of the background.

    Returns:
        `PIL.Image.Image`: RGB.
    """
    uncovered = 1 - np.asarray(mask, dtype=np.float32)[..., None] / 255
    pixels = np.asarray(image, dtype=np.float32) + uncovered * (np.array(paper, dtype=np.float32) - 255)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def lines(image: Image.Image, mask: Image.Image, width: int = 3) -> Image.Image:
    """
    The lines of a drawing, that is, its contour and the borders between its colors: 255 on a line and 0 elsewhere.

    Args:
        image (`PIL.Image.Image`): The drawing on white, RGB.
        mask (`PIL.Image.Image`): Opacity of each pixel, in gray levels.
        width (`int`, *optional*, defaults to 3): Width of the lines in pixels, an odd number.

    Returns:
        `PIL.Image.Image`: Grayscale.
    """
    edges = _gradient(image.convert("L").filter(ImageFilter.MedianFilter(3)), width)
    return ImageChops.lighter(edges.point(lambda level: 255 if level >= EDGE else 0), _gradient(mask, width))


def outlined(image: Image.Image, mask: Image.Image, width: int = 3) -> tuple[Image.Image, Image.Image]:
    """The drawing with black [`lines`], and its mask, extended by the contour."""
    drawn = lines(image, mask, width)
    return _inked(image, drawn), ImageChops.lighter(mask, drawn)


def line_drawing(image: Image.Image, mask: Image.Image, width: int = 3) -> tuple[Image.Image, Image.Image]:
    """Only the [`lines`] of the drawing, in black on white, and their mask."""
    drawn = lines(image, mask, width)
    return _inked(Image.new("RGB", image.size, WHITE), drawn), drawn


def grey(image: Image.Image) -> Image.Image:
    """The image in gray, as RGB."""
    return image.convert("L").convert("RGB")


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """The image with a Gaussian blur of `radius` pixels."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The image after JPEG compression with a quality from 1 to 95."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def _gradient(layer: Image.Image, width: int) -> Image.Image:
    return ImageChops.difference(
        layer.filter(ImageFilter.MaxFilter(width)), layer.filter(ImageFilter.MinFilter(width))
    )


def _inked(image: Image.Image, drawn: Image.Image) -> Image.Image:
    return Image.composite(Image.new("RGB", image.size), image, drawn)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Supported image sizes."""

from numbers import Integral
from typing import TYPE_CHECKING


if TYPE_CHECKING:  # sizes are checked before anything heavy is imported
    from diffusers import ModelMixin

# (height, width) in pixels at high resolution, where the U-Net is trained for 1024 x 1024.
ASPECT_RATIOS = {
    "1:1": (1024, 1024),
    "4:3": (896, 1152),
    "3:2": (832, 1216),
    "16:9": (768, 1344),
    "2:3": (1216, 832),
    "3:4": (1152, 896),
}
ASPECT_RATIO_BASE = 1024

# Limits for images without a warning: ratio of the area to that in training, and ratio of the sides.
USUAL_AREA, USUAL_SIDES = 1.5, 2.0


def resolve_size(
    native: int, multiple: int, height: int | None = None, width: int | None = None, aspect_ratio: str | None = None
) -> tuple[int, int]:
    """
    Determines the size of images.

    Args:
        native (`int`):
            Height and width that the U-Net is trained for, in pixels.
        multiple (`int`):
            Divisor of both sides that the VAE requires.
        height (`int`, *optional*):
            In pixels. Defaults to `native`.
        width (`int`, *optional*):
            In pixels. Defaults to `native`.
        aspect_ratio (`str`, *optional*):
            A key of `ASPECT_RATIOS`, instead of `height` and `width`. Its size is scaled to `native`.

    Returns:
        `tuple[int, int]`: height and width in pixels.

    Raises:
        ValueError: If the VAE does not support the size, the name is unknown, or the size is given twice.
    """
    if aspect_ratio is None:
        size = (native if height is None else height, native if width is None else width)
        for name, pixels in zip(("height", "width"), size, strict=True):
            _check_side(name, pixels, multiple)
        return size
    if height is not None or width is not None:
        raise ValueError("pass either aspect_ratio or height and width, not both.")
    if aspect_ratio not in ASPECT_RATIOS:
        raise ValueError(f"unknown aspect_ratio {aspect_ratio!r}. Choose one of {', '.join(ASPECT_RATIOS)}.")
    scale = native / ASPECT_RATIO_BASE / multiple
    height, width = (round(side * scale) * multiple for side in ASPECT_RATIOS[aspect_ratio])
    return height, width


def warn_if_far(native: int, height: int, width: int) -> None:
    """Warns if a size in pixels is far from the `native` height and width that the U-Net is trained for."""
    from diffusers.utils import logging

    area, sides = height * width / native**2, height / width
    if max(area, 1 / area) > USUAL_AREA or max(sides, 1 / sides) > USUAL_SIDES:
        logging.get_logger(__name__).warning(
            f"{height} x {width} pixels is far from the {native} x {native} that the U-Net was trained for, so the "
            "image may repeat or miss things. Generate it at that size, or with aspect_ratio, and resize it."
        )


def _check_side(name: str, pixels: int, multiple: int) -> None:
    if not isinstance(pixels, Integral):
        raise ValueError(f"{name} must be an integer, got {pixels!r}.")
    if pixels < 1 or pixels % multiple:
        nearest = max(1, round(pixels / multiple)) * multiple
        raise ValueError(
            f"{name} must be a positive multiple of {multiple}, as the VAE requires; got {pixels}. Use {nearest}."
        )


def latent_size_ratio(vae: "ModelMixin") -> int:
    """Number of pixels per latent along each side."""
    ratio = getattr(vae, "spatial_compression_ratio", None)
    return ratio or 2 ** (len(vae.config.block_out_channels) - 1)


__all__ = ["ASPECT_RATIOS", "latent_size_ratio", "resolve_size", "warn_if_far"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Limits for untrusted requests to the page and the server."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .failures import Failure


# Pillow's names of common formats, without formats that contain images of other sizes than declared (icons), and
# without EPS, which is executable code.
PICTURE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class TooLarge(Failure):
    """Raised for a request that exceeds the limits."""


@dataclass(frozen=True)
class InputLimits:
    """
    Limits per request. They are far above normal use, but low enough to protect the machine: the largest allowed image
    takes about 0.7 GB while it is read.

    Args:
        text_characters (`int`, *optional*, defaults to 10 000):
            Maximum number of characters of a text. The context of a LaVIT model holds a tenth of them.
        pictures (`int`, *optional*, defaults to 16):
            Maximum number of images.
        picture_bytes (`int`, *optional*, defaults to 20 MiB):
            Maximum file size of an image.
        picture_pixels (`int`, *optional*, defaults to 50 million):
            Maximum number of pixels of an image, whatever its file size.
        request_pixels (`int`, *optional*, defaults to 64 million):
            Maximum number of pixels of all images of a request.
        json_bytes (`int`, *optional*, defaults to 1 MiB):
            Maximum size of a body without files.
        upload_bytes (`int`, *optional*, defaults to 64 MiB):
            Maximum size of a body with files.
        stored_bytes (`int`, *optional*, defaults to 2 GiB):
            Maximum size of all uploads on disk.
    """

    text_characters: int = 10_000
    pictures: int = 16
    picture_bytes: int = 20 * 2**20
    picture_pixels: int = 50_000_000
    request_pixels: int = 64_000_000
    json_bytes: int = 2**20
    upload_bytes: int = 64 * 2**20
    stored_bytes: int = 2 * 2**30

    def check_text(self, text: str) -> str:
        """Returns the text, or raises [`TooLarge`] if it is too long."""
        if len(text) > self.text_characters:
            raise TooLarge(
                f"the text has {len(text):,} characters, but at most {self.text_characters:,} are read. Shorten it."
            )
        return text


class PictureReader:
    """
    Reads the images of one request, within limits on each image and on all of them.

    Args:
        limits (`InputLimits`, *optional*):
            The limits.
    """

    def __init__(self, limits: InputLimits | None = None):
        self.limits = limits or InputLimits()
        self._num_pictures = 0
        self._num_pixels = 0

    def read(self, source: bytes | Path, name: str) -> Image.Image:
        """
        Reads an image. Never downloads anything, and never treats text as a path.

        Args:
            source (`bytes` or `Path`):
                The file or its content.
            name (`str`):
                Name of the image in error messages.

        Returns:
            `PIL.Image.Image`: The image, upright, in mode `"RGB"`.

        Raises:
            TooLarge: If it exceeds the limits.
            Failure: If it cannot be read.
        """
        from ..lavit.image_loading import load_image  # imports torch

        limits, left = self.limits, self.limits.request_pixels - self._num_pixels
        self._num_pictures += 1
        if self._num_pictures > limits.pictures:
            raise TooLarge(f"there are more than {limits.pictures} images. Send fewer.")
        if _num_bytes(source, name) > limits.picture_bytes:
            raise TooLarge(f"{name} is larger than {limits.picture_bytes >> 20} MB. Scale it down first.")
        try:
            image = load_image(source, max_pixels=min(limits.picture_pixels, left), formats=PICTURE_FORMATS)
        except ValueError as error:
            raise self._explain(error, source, name, left) from error
        self._num_pixels += image.width * image.height
        return image

    def _explain(self, error: ValueError, source: bytes | Path, name: str, left: int) -> Failure:
        if not isinstance(error.__cause__, Image.DecompressionBombError):
            called = f"the image of {len(source)} bytes" if isinstance(source, bytes) else repr(str(source))
            return Failure(str(error).replace(called, name))
        if left < self.limits.picture_pixels:
            most = f"{self.limits.request_pixels / 1e6:.0f} million pixels"
            return TooLarge(f"together, the images have more than {most}. Scale {name} down first.")
        most = f"{self.limits.picture_pixels / 1e6:.0f} million pixels"
        return TooLarge(f"{name} has more than {most}. Scale it down first.")


def _num_bytes(source: bytes | Path, name: str) -> int:
    if isinstance(source, bytes):
        return len(source)
    if not source.is_file():
        raise Failure(f"{name} is no longer there. Choose it again.")
    return source.stat().st_size

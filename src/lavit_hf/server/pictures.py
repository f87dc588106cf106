# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reads the images of requests from data URLs, uploads, and the network if allowed."""

import base64
import binascii

from PIL import Image
from transformers import BaseImageProcessor

from ..lavit.image_download import download_image
from ..tasks.limits import PictureReader
from .errors import ApiError, bad_requests
from .limits import Limits


DATA_PREFIX = "data:image/"
URL_PREFIXES = ("http://", "https://")


class RequestPictures:
    """
    Reads the images of one request, within limits on each image and on all of them.

    Args:
        limits ([`Limits`]):
            The limits.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._reader = PictureReader(limits.inputs)

    def read_url(self, url: str, name: str) -> Image.Image:
        """
        Reads an image from a URL.

        Args:
            url (`str`):
                A `data:image/...;base64,` URL, or an `http(s)` URL if the limits allow it. Never a file.
            name (`str`):
                Name of the image in error messages.

        Returns:
            `PIL.Image.Image`: The image, upright, in mode `"RGB"`.

        Raises:
            ApiError: If it cannot be read, or URLs are not allowed.
        """
        if url.startswith(DATA_PREFIX):
            return self.read(_decode(url, name), name)
        if not url.startswith(URL_PREFIXES):
            raise ApiError(400, f"{name} is not the URL of an image. Send data:image/png;base64,...", name)
        if not self.limits.remote_images:
            raise ApiError(400, f"{name}: this server does not download images. Send data:image/png;base64,...", name)
        with bad_requests(name):
            data = download_image(url, name)
        return self.read(data, name)

    def read(self, data: bytes, name: str) -> Image.Image:
        """
        Reads an image that was sent.

        Args:
            data (`bytes`):
                Content of the file.
            name (`str`):
                Name of the image in error messages.

        Returns:
            `PIL.Image.Image`: The image, upright, in mode `"RGB"`.

        Raises:
            ApiError: If it cannot be read.
        """
        with bad_requests(name):
            return self._reader.read(data, name)


def shrink(images: list[Image.Image], image_processor: BaseImageProcessor) -> list[Image.Image]:
    """Resizes images to the model's input size to save memory while requests wait. The model's input is the same."""
    if not images:
        return []
    pixels = image_processor(images, do_rescale=False, do_normalize=False, return_tensors="pt").pixel_values
    return [Image.fromarray(image) for image in pixels.byte().permute(0, 2, 3, 1).numpy()]


def _decode(url: str, name: str) -> bytes:
    header, _, payload = url.partition(",")
    if not header.endswith(";base64"):
        raise ApiError(400, f"{name} is not base64. Send data:image/png;base64,...", name)
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{name} is damaged base64: {error}", name) from error


__all__ = ["RequestPictures", "shrink"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of requests, read by the package's own reader: from data URLs and uploads, from the network if allowed."""

import base64
import binascii

from PIL import Image

from ..lavit.image_loading import load_image
from .errors import ApiError
from .limits import Limits


DATA_PREFIX = "data:image/"
URL_PREFIXES = ("http://", "https://")


def read_picture_url(url: str, name: str, limits: Limits) -> Image.Image:
    """
    Reads a picture that a message names.

    Args:
        url (`str`):
            A `data:image/...;base64,` URL, or where `limits` allow it an `http(s)` URL. Never a file.
        name (`str`):
            What errors call the picture.
        limits ([`Limits`]):
            The bounds.

    Returns:
        `PIL.Image.Image`: The picture, upright, in mode `"RGB"`.

    Raises:
        ApiError: If it cannot be read, or URLs are not allowed.
    """
    if url.startswith(DATA_PREFIX):
        return read_picture(_decode(url, name), name)
    if not url.startswith(URL_PREFIXES):
        raise ApiError(400, f"{name} is no URL of a picture: send data:image/png;base64,...", name)
    if not limits.remote_images:
        raise ApiError(400, f"{name}: this server downloads no pictures; send data:image/png;base64,...", name)
    return _load(url, name)


def read_picture(data: bytes, name: str) -> Image.Image:
    """
    Reads a picture that was sent.

    Args:
        data (`bytes`):
            Its file.
        name (`str`):
            What errors call it.

    Returns:
        `PIL.Image.Image`: The picture, upright, in mode `"RGB"`.

    Raises:
        ApiError: If it cannot be read.
    """
    return _load(data, name)


def _load(source: str | bytes, name: str) -> Image.Image:
    try:
        return load_image(source)
    except ValueError as error:
        raise ApiError(400, f"{name}: {error}", name) from error


def _decode(url: str, name: str) -> bytes:
    header, _, payload = url.partition(",")
    if not header.endswith(";base64"):
        raise ApiError(400, f"{name} is not in base64: send data:image/png;base64,...", name)
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, f"{name} is damaged base64: {error}", name) from error


__all__ = ["read_picture", "read_picture_url"]

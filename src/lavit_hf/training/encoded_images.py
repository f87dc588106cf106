# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Images of the `datasets` library that are not decoded yet: read like by the image processors, wherever they are."""

import logging
from collections.abc import Mapping
from pathlib import Path

from datasets import Image
from datasets.utils.file_utils import xopen
from PIL import Image as PilImage

from ..lavit.image_loading import load_image
from .errors import TrainingError


logger = logging.getLogger(__name__)

# Archives and stores whose addresses are followed. Addresses in data could otherwise lead into the user's network.
PROTOCOLS = {"abfs", "az", "gcs", "gs", "hf", "s3", "tar", "zip"}


class ReadableImage(Image):
    """
    A column of images that are read by [`read_image`]: `datasets` itself stops at damaged EXIF data, and does not
    apply the limit of pixels. An image that cannot be read is `None`.
    """

    def decode_example(self, value: Mapping | PilImage.Image, token_per_repo_id=None) -> PilImage.Image | None:
        return read_image(value) if isinstance(value, Mapping) else value


def read_image(image: Mapping | None) -> PilImage.Image | None:
    """
    Reads an undecoded image like the image processors do, with a warning if it cannot be read.

    Args:
        image (`Mapping`, *optional*):
            Its `bytes`, or its `path`, as in [`read_bytes`].

    Returns:
        `PIL.Image.Image` or `None`: The upright image in mode `"RGB"`, or `None` if it cannot be read.

    Raises:
        TrainingError: If there is no connection to it. Others are then missing too, so the run must stop.
    """
    try:
        return load_image(read_bytes(image))
    except ConnectionError as error:
        raise TrainingError(
            f"{_name(image)} cannot be downloaded: {error}. Check the connection, and start the run again."
        ) from error
    except (OSError, ValueError) as error:
        logger.warning("skipped an image that cannot be read: %s (%s)", _name(image), error)
        return None


def read_bytes(image: Mapping | None) -> bytes:
    """
    Reads the file of an undecoded image.

    Args:
        image (`Mapping`, *optional*):
            Its `bytes`, or its `path`: a local file, or an address as in streaming datasets, such as
            `hf://datasets/user/cats/cat.png` or `zip://cat.png::cats.zip`.

    Raises:
        `OSError` or `ValueError`: If there is no such file, or its address is none of those that are followed.
    """
    content, path = ((image or {}).get(name) for name in ("bytes", "path"))
    if content:
        return content
    if not path:
        raise ValueError("there is no image")
    protocols = {hop.partition("://")[0] for hop in path.split("::") if "://" in hop}
    if unknown := sorted(protocols - PROTOCOLS):
        raise ValueError(f"addresses of {unknown[0]}:// in data are not followed")
    return _read_address(path) if protocols else Path(path).read_bytes()


def _read_address(path: str) -> bytes:
    try:
        with xopen(path, "rb") as file:
            return file.read()
    except ConnectionError:
        raise
    except Exception as error:  # every archive and store has errors of its own
        raise ValueError(f"it cannot be opened: {error}") from error


def _name(image: Mapping | None) -> str:
    return (image or {}).get("path") or "one without a name"


__all__ = ["ReadableImage", "read_bytes", "read_image"]

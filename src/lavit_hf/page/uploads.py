# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reads images uploaded by users."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from gradio_client.utils import is_http_url_like
from PIL import Image

from ..tasks.failures import Failure
from ..tasks.limits import PictureReader
from .messages import message


HEIGHT = "20rem"
EXAMPLES = Path(__file__).parent / "pictures"
NOT_UPLOADED = "this image was not uploaded to this page. Upload it, or choose an example."


def picture_input(label: str, elem_id: str) -> gr.Image:
    """Creates an input to drop, paste or choose an image. Handlers receive the path of its file."""
    picture = gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        placeholder="Drop an image here, or choose one",
        height=HEIGHT,
        buttons=[],
        elem_id=elem_id,
        elem_classes="picture",
    )
    # gradio would open the file, and fail with messages for developers if it is not an image.
    picture.preprocess = _path_of
    return picture


def read_picture(path: str | None) -> Image.Image:
    """
    Reads an upload.

    Args:
        path (`str`, *optional*):
            Path of the file.

    Returns:
        `PIL.Image.Image`: The image, upright, in mode `"RGB"`.

    Raises:
        Failure: If there is no image, it is too large, or it cannot be read.
    """
    if not path:
        raise Failure("no image is chosen. Choose one, or drop it here.")
    return read_pictures([path])[0]


def read_pictures(paths: Sequence[str]) -> list[Image.Image]:
    """
    Reads the uploads of one request, within limits on each image and on all of them.

    Raises:
        Failure: If a file was not uploaded, an image is too large, or it cannot be read.
    """
    reader = PictureReader()
    return [reader.read(_uploaded(path), f'"{Path(path).name}"') for path in paths]


def take_uploads_only(block: gr.blocks.Block) -> None:
    """Makes a part of the page reject URLs, which gradio would download, and whatever is not a file."""
    move = block.async_move_resource_to_block_cache

    async def move_upload(path: str | Path | None) -> str | None:
        if path is not None and is_http_url_like(str(path)):
            raise message("this page does not download anything. Upload the image itself.")
        # gradio would fail to delete a folder, and then stop deleting uploads.
        if path is not None and not Path(path).is_file():
            raise message(NOT_UPLOADED)
        return await move(path)

    block.async_move_resource_to_block_cache = move_upload


def example_paths() -> list[Path]:
    """Returns the example images, or none if the package was installed without them."""
    return sorted(EXAMPLES.glob("*.png"))


def _uploaded(path: str) -> Path:
    """Resolves the path of an upload. A request can name any file, and gradio checks only some forms of names."""
    file = Path(path).resolve()
    folders = [Path(folder).resolve() for folder in (get_upload_folder(), EXAMPLES)]
    if not any(file.is_relative_to(folder) for folder in folders) or not file.is_file():
        raise Failure(NOT_UPLOADED)
    return file


def _path_of(payload) -> str | None:
    return None if payload is None else payload.path

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pictures that users give, read by the package's own reader."""

from pathlib import Path

import gradio as gr
from PIL import Image

from ..lavit.image_loading import load_image
from ..tasks.failures import Failure


HEIGHT = "20rem"
EXAMPLES = Path(__file__).parent / "pictures"


def picture_input(label: str, elem_id: str) -> gr.Image:
    """A place to drop, paste or choose a picture. Handlers get the path of its file."""
    picture = gr.Image(
        label=label,
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        placeholder="Drop a picture here, or choose one",
        height=HEIGHT,
        buttons=[],
        elem_id=elem_id,
        elem_classes="picture",
    )
    # gradio's own would open the file, and fail with messages for developers where it is no picture.
    picture.preprocess = _path_of
    return picture


def read_picture(path: str | None) -> Image.Image:
    """
    Reads an upload.

    Args:
        path (`str`, *optional*):
            Its file.

    Returns:
        `PIL.Image.Image`: The picture, upright, in mode `"RGB"`.

    Raises:
        Failure: If there is none, or it cannot be read.
    """
    if not path:
        raise Failure("there is no picture yet: choose one, or drop it here.")
    name = f'"{Path(path).name}"'
    try:
        return load_image(path)
    except ValueError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            limit = Image.MAX_IMAGE_PIXELS / 1e6
            raise Failure(f"{name} has more than {limit:.0f} million pixels: scale it down first.") from error
        raise Failure(str(error).replace(repr(path), name)) from error


def example_paths() -> list[Path]:
    """The pictures that the page offers; none where the package was installed without them."""
    return sorted(EXAMPLES.glob("*.png"))


def _path_of(payload) -> str | None:
    return None if payload is None else payload.path

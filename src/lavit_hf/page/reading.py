# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the *Read* tab does: texts about an image, and the patches that they were read from."""

import torch
from PIL import Image

from ..lavit.keep_settings import KeepSettings
from ..tasks.kept import KeptPatches
from ..tasks.reading import ReadText, Task, read_images
from .model import PageModel


def write_about(model: PageModel, task: Task, image: Image.Image, keep: KeepSettings | None = None) -> ReadText:
    """
    Has the model write about an image.

    Args:
        model (`PageModel`):
            The model.
        task (`Task`):
            What to write.
        image (`PIL.Image.Image`):
            The image.
        keep ([`KeepSettings`], *optional*):
            How many patches to keep; by default the model's own rule decides.

    Returns:
        [`ReadText`]: the text, and the patches that it was read from.
    """
    generator, _ = model.make_generator()
    inputs = task.prepare(model.processor, image)
    return read_images(task, [inputs], model.processor, model.language_model, generator, keep)[0]


@torch.no_grad()
def find_kept(model: PageModel, image: Image.Image, keep: KeepSettings | None = None) -> KeptPatches:
    """
    The patches that would be read, without a text.

    Args:
        model (`PageModel`):
            The model.
        image (`PIL.Image.Image`):
            The image.
        keep ([`KeepSettings`], *optional*):
            How many patches to keep; by default the model's own rule decides.

    Returns:
        [`KeptPatches`].
    """
    generator, _ = model.make_generator()
    outputs = model.language_model.get_image_features(model.prepare(image), generator=generator, **keep or {})
    return KeptPatches.of(outputs)[0]

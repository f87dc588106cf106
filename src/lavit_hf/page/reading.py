# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generates texts about an image and finds its kept patches, for the *Read* tab."""

import torch
from PIL import Image

from ..lavit.keep_settings import KeepSettings
from ..tasks.kept import KeptPatches
from ..tasks.reading import ReadText, Task, read_images
from .model import PageModel


def write_about(model: PageModel, task: Task, image: Image.Image, keep: KeepSettings | None = None) -> ReadText:
    """
    Generates a text about an image.

    Args:
        model (`PageModel`):
            The model.
        task (`Task`):
            The kind of text.
        image (`PIL.Image.Image`):
            The image.
        keep ([`KeepSettings`], *optional*):
            How many patches to keep. Defaults to the model's own rule.

    Returns:
        [`ReadText`]: the text and the kept patches.
    """
    generator, _ = model.make_generator()
    inputs = task.prepare(model.processor, image)
    return read_images(task, [inputs], model.processor, model.language_model, generator, keep)[0]


@torch.no_grad()
def find_kept(model: PageModel, image: Image.Image, keep: KeepSettings | None = None) -> KeptPatches:
    """
    Finds the kept patches of an image, without generating a text.

    Args:
        model (`PageModel`):
            The model.
        image (`PIL.Image.Image`):
            The image.
        keep ([`KeepSettings`], *optional*):
            How many patches to keep. Defaults to the model's own rule.

    Returns:
        [`KeptPatches`].
    """
    generator, _ = model.make_generator()
    outputs = model.language_model.get_image_features(model.prepare(image), generator=generator, **keep or {})
    return KeptPatches.of(outputs)[0]

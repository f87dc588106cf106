# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the *Read* tab does: texts about a picture, and the patches that they were read from."""

import torch
from PIL import Image

from ..tasks.reading import Task, generate_texts
from .model import PageModel
from .selection import keeping, watching


def write_about(
    model: PageModel, task: Task, image: Image.Image, keep_ratio: float | None = None
) -> tuple[str, torch.Tensor]:
    """
    Has the model write about a picture.

    Args:
        model (`PageModel`):
            The model.
        task (`Task`):
            What to write.
        image (`PIL.Image.Image`):
            The picture.
        keep_ratio (`float`, *optional*):
            The share of patches to keep; by default the model's own rule decides.

    Returns:
        The text, and which patches it was read from, `(num_patches,)`.
    """
    generator, _ = model.make_generator()
    inputs = task.prepare(model.processor, image)
    with keeping(model.language_model, keep_ratio), watching(model.language_model) as masks:
        texts = generate_texts(task, [inputs], model.processor, model.language_model, generator)
    return texts[0], masks[0][0]


@torch.no_grad()
def find_kept(model: PageModel, image: Image.Image, keep_ratio: float | None = None) -> torch.Tensor:
    """
    The patches that would be read, without a text.

    Args:
        model (`PageModel`):
            The model.
        image (`PIL.Image.Image`):
            The picture.
        keep_ratio (`float`, *optional*):
            The share of patches to keep; by default the model's own rule decides.

    Returns:
        `torch.BoolTensor` of shape `(num_patches,)`.
    """
    generator, _ = model.make_generator()
    with keeping(model.language_model, keep_ratio), watching(model.language_model) as masks:
        model.language_model.get_image_features(model.prepare(image), generator=generator)
    return masks[0][0]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Which image belongs to which place of which text."""

import re
from typing import Any

from transformers.tokenization_utils_base import TextInput

from .image_loading import flatten_images


def match_images_with_texts(
    text: TextInput | list[TextInput | None] | None, images: Any, image_token: str
) -> tuple[list[str], list[list]]:
    """
    One text and one list of images for each sample of the batch.

    Args:
        text (`str` or `list[str]`, *optional*):
            Texts as a processor takes them; `None` for an image without a text.
        images (*optional*):
            Images as a processor takes them, flat or a list for each text.
        image_token (`str`):
            The placeholder.

    Returns:
        The texts, and as many lists of images.

    Raises:
        ValueError: If places and images differ in number, or a text is no string.
    """
    nested = isinstance(images, list | tuple) and any(isinstance(image, list | tuple | None) for image in images)
    if nested:
        images = [[] if sample is None else list(flatten_images(sample)) for sample in images]
    else:
        images = [] if images is None else list(flatten_images(images))
    texts = _as_texts(text, default_length=len(images))
    if not nested:
        images = _deal_out(images, [text.count(image_token) for text in texts])
    if len(images) != len(texts):
        raise ValueError(f"There are {len(texts)} texts, but {len(images)} lists of images: pass one for each text.")
    for number, (text, sample) in enumerate(zip(texts, images)):
        if text.count(image_token) not in (0, len(sample)):
            raise ValueError(
                f"Prompt {number} has {len(sample)} images, but {image_token} {text.count(image_token)} times: write "
                "it once for each image, or not at all to have the images in front."
            )
    return texts, images


def _as_texts(text: TextInput | list[TextInput | None] | None, default_length: int) -> list[str]:
    if text is None:
        text = [None] * default_length
    texts = list(text) if isinstance(text, list | tuple) else [text]
    if not texts:
        raise ValueError("There is neither a text nor an image to process.")
    if not all(isinstance(sample, str | None) for sample in texts):
        raise ValueError("`text` must be a string or a list of strings, or of `None` for images without a prompt.")
    return [sample or "" for sample in texts]


def _deal_out(images: list, num_placeholders: list[int]) -> list[list]:
    """Deals a flat list of images out to the texts."""
    if len(num_placeholders) == 1:
        return [images]
    if images and not any(num_placeholders):
        num_placeholders = [1] * len(num_placeholders)
    if sum(num_placeholders) != len(images):
        raise ValueError(
            f"{len(images)} images cannot be dealt out to texts with places for {num_placeholders} images: make the "
            "numbers equal, or pass a list of images for each text."
        )
    remaining = iter(images)
    return [[next(remaining) for _ in range(count)] for count in num_placeholders]


def split_at_placeholders(text: str, image_token: str) -> list[tuple[str, int]]:
    """Pieces of text around the placeholders, and where in the text they start."""
    pieces, start = [], 0
    for placeholder in re.finditer(f" ?{re.escape(image_token)} ?", text):
        pieces.append((text[start : placeholder.start()], start))
        start = placeholder.end()
    return [*pieces, (text[start:], start)]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Turns images into token ids, for `tokenize` and `reconstruct`."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from PIL import Image

from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.keep_settings import KeepSettings
from ..visualization import draw_keep_mask, save_image
from ..wiring import LaVITImageProcessor
from .images import read_batches
from .kept import KeptPatches
from .loading import find_device, load_visual_tokenizer, make_generator, without_library_bars
from .requests import PictureRequest
from .results import show_results


OVERLAY_SIZE = 512  # longer side of an overlay in pixels


class _Prepared(NamedTuple):
    pixel_values: torch.Tensor  # (1, channels, image_size, image_size)
    thumbnail: Image.Image | None


class TokenizedImage(NamedTuple):
    """
    An image as token ids.

    Args:
        source (`str`):
            The image.
        token_ids (`list[int]`):
            Token ids of `[IMG]`, a code for each kept patch, and `[/IMG]`.
        kept ([`KeptPatches`]):
            The kept patches.
        thumbnail (`PIL.Image.Image`, *optional*):
            A small version of the image.
    """

    source: str
    token_ids: list[int]
    kept: KeptPatches
    thumbnail: Image.Image | None


def print_tokens(
    request: PictureRequest, keep: KeepSettings, batch_size: int, seed: int | None, as_json: bool
) -> None:
    """
    Prints the token ids of each image.

    Args:
        request (`PictureRequest`):
            The images, the model, and the output files for images of the kept patches, if any.
        keep ([`KeepSettings`]):
            How many patches to keep; if empty, the model's own rule is used.
        batch_size (`int`):
            Number of images per batch.
        seed (`int`, *optional*):
            Random seed.
        as_json (`bool`):
            Whether to print JSON objects instead of lists.
    """
    with without_library_bars(), show_results(len(request.sources), as_json) as results:
        generator, seed = make_generator(seed, find_device(request.options.device))
        for image in tokenize_images(request, keep, batch_size, generator, with_thumbnails=bool(request.outputs)):
            fields = {"token_ids": image.token_ids, **image.kept.fields()}
            if request.outputs:
                path = request.outputs[image.source]
                save_image(draw_keep_mask(image.thumbnail, image.kept.mask, size=OVERLAY_SIZE), path)
                fields["overlay"] = str(path)
            results.add(image.source, str(image.token_ids), **fields, seed=seed)
            image.kept.report_if_not_reached(image.source)
    request.skipped.exit_if_any()


def tokenize_images(
    request: PictureRequest,
    keep: KeepSettings,
    batch_size: int,
    generator: torch.Generator,
    with_thumbnails: bool = False,
) -> Iterator[TokenizedImage]:
    """
    Turns images into token ids batch by batch, using only the visual tokenizer.

    Args:
        request (`PictureRequest`):
            The images and the model.
        keep ([`KeepSettings`]):
            How many patches to keep; if empty, the model's own rule is used.
        batch_size (`int`):
            Number of images per batch.
        generator (`torch.Generator`):
            Random number generator for the selector.
        with_thumbnails (`bool`, *optional*, defaults to `False`):
            Whether to keep a small version of each image.

    Yields:
        [`TokenizedImage`].
    """
    config = LaVITConfig.from_pretrained(request.repo)
    image_processor = LaVITImageProcessor.from_pretrained(request.repo)

    def prepare(image: Image.Image) -> _Prepared:
        pixel_values = image_processor(image, return_tensors="pt").pixel_values
        return _Prepared(pixel_values, _make_thumbnail(image) if with_thumbnails else None)

    visual_tokenizer = None  # loaded once there is an image
    for batch in read_batches(request.sources, batch_size, prepare, request.skipped):
        visual_tokenizer = visual_tokenizer or load_visual_tokenizer(request.repo, request.options)
        pixel_values = torch.cat([prepared.pixel_values for _, prepared in batch])
        with torch.no_grad():
            outputs = visual_tokenizer(
                pixel_values.to(visual_tokenizer.device, visual_tokenizer.dtype), generator=generator, **keep
            )
        for (source, prepared), codes, kept in zip(batch, outputs.codes, KeptPatches.of(outputs)):
            yield TokenizedImage(source, mark_codes(codes.tolist(), config), kept, prepared.thumbnail)


def mark_codes(codes: Iterable[int], config: LaVITConfig) -> list[int]:
    """Converts codes to token ids, between `[IMG]` and `[/IMG]`."""
    ids = [config.first_code_token_id + code for code in codes]
    return [config.image_start_token_id, *ids, config.image_end_token_id]


def _make_thumbnail(image: Image.Image) -> Image.Image:
    thumbnail = image.copy()
    thumbnail.thumbnail((OVERLAY_SIZE, OVERLAY_SIZE))  # never enlarges
    return thumbnail

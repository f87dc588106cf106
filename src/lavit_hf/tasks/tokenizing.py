# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pictures as token ids, for `tokenize` and `reconstruct`."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from ..lavit.configuration_lavit import LaVITConfig
from ..visualization import draw_keep_mask, save_image
from ..wiring import LaVITImageProcessor
from .images import Skipped, find_images, read_batches
from .loading import find_device, find_repo, load_visual_tokenizer, make_generator, without_library_bars
from .options import ModelOptions
from .results import show_results
from .saving import check_free, name_outputs


OVERLAY_SIZE = 512  # longer side of an overlay in pixels


class _Prepared(NamedTuple):
    pixel_values: torch.Tensor  # (1, channels, image_size, image_size)
    thumbnail: Image.Image | None


class TokenizedImage(NamedTuple):
    """
    A picture as tokens.

    Args:
        source (`str`):
            The picture.
        token_ids (`list[int]`):
            Ids of the language model: `[IMG]`, a code for each kept patch, `[/IMG]`.
        keep_mask (`torch.BoolTensor` of shape `(num_patches,)`):
            The kept patches.
        thumbnail (`PIL.Image.Image`, *optional*):
            The picture, made small.
    """

    source: str
    token_ids: list[int]
    keep_mask: torch.Tensor
    thumbnail: Image.Image | None


def print_tokens(
    images: Sequence[str],
    options: ModelOptions,
    keep_ratio: float | None,
    overlay: Path | None,
    force: bool,
    batch_size: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """
    Prints the tokens of each picture.

    Args:
        images (`Sequence[str]`):
            The pictures as the command line names them.
        options (`ModelOptions`):
            Which model.
        keep_ratio (`float`, *optional*):
            The share of patches to keep.
        overlay (`Path`, *optional*):
            Folder for pictures of the kept patches.
        force (`bool`):
            Whether these may overwrite files.
        batch_size (`int`):
            Pictures at once.
        seed (`int`, *optional*):
            Seed of the draws.
        as_json (`bool`):
            Whether to print JSON objects rather than lists.
    """
    skipped = Skipped()
    sources = find_images(images, skipped)
    outputs = name_outputs(sources, overlay) if overlay else {}
    check_free(outputs.values(), force)
    with without_library_bars(), show_results(len(sources), as_json) as results:
        repo = find_repo(options.model)
        generator, seed = make_generator(seed, find_device(options.device))
        for image in tokenize_images(
            sources, repo, options, keep_ratio, batch_size, generator, skipped, with_thumbnails=bool(outputs)
        ):
            fields = {
                "token_ids": image.token_ids,
                "kept": int(image.keep_mask.sum()),
                "patches": len(image.keep_mask),
            }
            if outputs:
                path = outputs[image.source]
                save_image(draw_keep_mask(image.thumbnail, image.keep_mask, size=OVERLAY_SIZE), path)
                fields["overlay"] = str(path)
            results.add(image.source, str(image.token_ids), **fields, seed=seed)
    skipped.exit_if_any()


def tokenize_images(
    sources: Iterable[str],
    repo: str,
    options: ModelOptions,
    keep_ratio: float | None,
    batch_size: int,
    generator: torch.Generator,
    skipped: Skipped,
    with_thumbnails: bool = False,
) -> Iterator[TokenizedImage]:
    """
    Turns pictures into tokens, one batch after the other, with the visual tokenizer alone.

    Args:
        sources (`Iterable[str]`):
            The pictures, as [`find_images`] gives them.
        repo (`str`):
            The model's repo.
        options (`ModelOptions`):
            How to load it.
        keep_ratio (`float`, *optional*):
            The share of patches to keep.
        batch_size (`int`):
            Pictures at once.
        generator (`torch.Generator`):
            Source of the selector's draws.
        skipped (`Skipped`):
            Takes the pictures that cannot be read.
        with_thumbnails (`bool`, *optional*, defaults to `False`):
            Whether to keep a small form of each picture.

    Yields:
        [`TokenizedImage`].
    """
    config = LaVITConfig.from_pretrained(repo)
    image_processor = LaVITImageProcessor.from_pretrained(repo)

    def prepare(image: Image.Image) -> _Prepared:
        pixel_values = image_processor(image, return_tensors="pt").pixel_values
        return _Prepared(pixel_values, _make_thumbnail(image) if with_thumbnails else None)

    visual_tokenizer = None  # loaded when there is a picture for it
    for batch in read_batches(sources, batch_size, prepare, skipped):
        visual_tokenizer = visual_tokenizer or load_visual_tokenizer(repo, options, keep_ratio)
        pixel_values = torch.cat([prepared.pixel_values for _, prepared in batch])
        with torch.no_grad():
            outputs = visual_tokenizer(
                pixel_values.to(visual_tokenizer.device, visual_tokenizer.dtype), generator=generator
            )
        for (source, prepared), codes, mask in zip(batch, outputs.codes, outputs.keep_mask):
            yield TokenizedImage(source, mark_codes(codes.tolist(), config), mask, prepared.thumbnail)


def mark_codes(codes: Iterable[int], config: LaVITConfig) -> list[int]:
    """Codes as a sentence of the language model: their ids between `[IMG]` and `[/IMG]`."""
    ids = [config.first_code_token_id + code for code in codes]
    return [config.image_start_token_id, *ids, config.image_end_token_id]


def _make_thumbnail(image: Image.Image) -> Image.Image:
    thumbnail = image.copy()
    thumbnail.thumbnail((OVERLAY_SIZE, OVERLAY_SIZE))  # makes nothing larger
    return thumbnail

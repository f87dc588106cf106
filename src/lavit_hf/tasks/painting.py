# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generates images from texts, images and tokens, for `draw` and `reconstruct`."""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging

from ..lavit.keep_settings import KeepSettings
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.pipeline_lavit import LaVITPipeline, LaVITPipelineOutput
from ..visualization import save_image
from .images import read_image
from .loading import (
    find_device,
    find_dtype,
    last_of_loading,
    load_language_model,
    load_processor,
    make_generator,
    without_library_bars,
)
from .options import ModelOptions
from .requests import PaintingRequest, PictureRequest
from .results import show_results
from .shared_switch import SharedSwitch
from .tokenizing import tokenize_images


T = TypeVar("T")

_diffusers_bars = SharedSwitch(
    diffusers_logging.is_progress_bar_enabled,
    diffusers_logging.disable_progress_bar,
    diffusers_logging.enable_progress_bar,
)


@last_of_loading
def load_pipeline(
    repo: str, options: ModelOptions, processor: LaVITProcessor, language_model: LaVITForCausalLM | None
) -> LaVITPipeline:
    """Loads the pipeline, with a loaded language model or without one."""
    with _diffusers_bars.off():
        pipeline = LaVITPipeline.from_pretrained(
            repo, processor=processor, language_model=language_model, dtype=find_dtype(repo, options)
        )
    return pipeline.to(find_device(options.device))


def draw_images(
    prompt: str, request: PaintingRequest, painting: dict[str, Any], seed: int | None, as_json: bool
) -> None:
    """
    Generates one or more images from a prompt.

    Args:
        prompt (`str`):
            What to generate.
        request (`PaintingRequest`):
            The images of the prompt, the output files, and the model.
        painting (`dict`):
            Arguments of the pipeline; `None` means the default.
        seed (`int`, *optional*):
            Random seed.
        as_json (`bool`):
            Whether to print JSON.
    """
    repo, options = request.repo, request.options
    with without_library_bars(), show_results(len(request.outputs), as_json, with_bar=False) as results:
        generator, seed = make_generator(seed, find_device(options.device))
        processor = load_processor(repo, options)
        images = [read_image(source) for source in request.sources]
        inputs = {"prompt": prompt, "images": [images] if images else None}
        processor(text=prompt, images=inputs["images"], generation_mode="image")  # fails before loading weights
        pipeline = load_pipeline(repo, options, processor, load_language_model(repo, options))
        pipeline.set_progress_bar_config(disable=not sys.stderr.isatty(), leave=False)
        output = pipeline(**inputs, **_without_none(painting), generator=generator)
        for number, (path, picture, ids) in enumerate(zip(request.outputs, output.images, output.image_token_ids)):
            save_image(picture, path)
            results.add_file(path, prompt=prompt, token_ids=ids.tolist(), **_flag(output, number), seed=seed)


def reconstruct_images(
    request: PictureRequest,
    painting: dict[str, Any],
    keep: KeepSettings,
    batch_size: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """
    Reconstructs each image from its tokens. Needs no language model.

    Args:
        request (`PictureRequest`):
            The images, the output files, and the model.
        painting (`dict`):
            Arguments of the pipeline; `None` means the default.
        keep ([`KeepSettings`]):
            How many patches to keep; if empty, the model's own rule is used.
        batch_size (`int`):
            Number of images per batch.
        seed (`int`, *optional*):
            Random seed.
        as_json (`bool`):
            Whether to print JSON.
    """
    with without_library_bars(), show_results(len(request.sources), as_json) as results:
        generator, seed = make_generator(seed, find_device(request.options.device))
        tokenized = tokenize_images(request, keep, batch_size, generator)
        pipeline = None  # loaded once there is an image
        for batch in _batched(tokenized, batch_size):
            pipeline = pipeline or _load_painter(request.repo, request.options)
            ids = [torch.tensor(image.token_ids) for image in batch]
            output = pipeline(image_token_ids=ids, **_without_none(painting), generator=generator)
            for number, (image, picture) in enumerate(zip(batch, output.images)):
                path = request.outputs[image.source]
                save_image(picture, path)
                fields = {"output": str(path), "token_ids": image.token_ids, **_flag(output, number), "seed": seed}
                results.add(image.source, str(path), **fields)
                image.kept.report_if_not_reached(image.source)
    request.skipped.exit_if_any()


def _load_painter(repo: str, options: ModelOptions) -> LaVITPipeline:
    pipeline = load_pipeline(repo, options, load_processor(repo, options), language_model=None)
    pipeline.set_progress_bar_config(disable=True)  # there is already one for the images
    return pipeline


def _flag(output: LaVITPipelineOutput, number: int) -> dict[str, bool]:
    """Returns whether the safety checker flagged an image; empty without a safety checker."""
    flagged = output.nsfw_content_detected
    return {} if flagged is None else {"flagged": bool(flagged[number])}


def _without_none(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch

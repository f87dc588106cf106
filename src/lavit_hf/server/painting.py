# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generates images for batches of requests, each with its own random generator."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import StoppingCriteria

from ..pixels.picture_sizes import resolve_size
from .errors import ApiError, bad_requests
from .fields import MAX_SEED, PaintFields
from .limits import Limits
from .model import ServedModel
from .pictures import shrink
from .scheduler import Job, check_wanted


DEFAULT_FORMAT = "png"


@dataclass
class Painting:
    """
    A request for images, ready for the pipeline.

    Args:
        prompt (`str`):
            What to generate.
        images (`list[PIL.Image.Image]`):
            The images of the prompt.
        negative_prompt (`str`, *optional*):
            What guidance steers away from.
        settings (`dict`):
            Further arguments of the pipeline.
        num_pictures (`int`):
            Number of images to generate.
        seed (`int`, *optional*):
            Random seed of the first image. The others use the following numbers.
        num_at_once (`int`):
            Maximum number of images of this size to generate in one batch.
        num_rows (`int`):
            Number of rows that it takes in a batch of the scheduler. A large image takes several.
    """

    prompt: str
    images: list[Image.Image]
    negative_prompt: str | None
    settings: dict[str, Any]
    num_pictures: int
    seed: int | None
    num_at_once: int
    num_rows: int


@dataclass(frozen=True)
class PaintedPicture:
    """
    A generated image.

    Args:
        image (`PIL.Image.Image`):
            The image.
        is_flagged (`bool`, *optional*):
            Whether the safety checker flagged it and blacked it out; `None` if there is no safety checker.
    """

    image: Image.Image
    is_flagged: bool | None

    def as_dict(self, output_format: str | None) -> dict[str, Any]:
        """Returns its entry in a response, with the file in base64, as PNG by default."""
        file = io.BytesIO()
        self.image.save(file, format=output_format or DEFAULT_FORMAT)
        flag = {} if self.is_flagged is None else {"flagged": self.is_flagged}
        return {"b64_json": base64.b64encode(file.getbuffer()).decode(), **flag}


def prepare_painting(fields: PaintFields, images: list[Image.Image], model: ServedModel, limits: Limits) -> Painting:
    """
    Checks a request for images.

    Args:
        fields (`PaintFields`):
            The request.
        images (`list[PIL.Image.Image]`):
            The images of its prompt.
        model (`ServedModel`):
            The model.
        limits (`Limits`):
            The limits.

    Raises:
        ApiError: If the model cannot generate images, or does not support this request.
    """
    if model.pipeline is None:
        raise ApiError(400, f"{model.name} cannot draw: {model.why_no_pipeline}", "model")
    _check_bounds(fields, limits)
    if not fields.prompt.strip() and not images:
        raise ApiError(400, "the prompt is empty. Say what to draw.", "prompt")
    pipeline = model.pipeline
    with bad_requests("size"):
        height, width = resolve_size(pipeline.picture_size, pipeline.vae_scale_factor, **fields.sides)
    images = shrink(images, model.processor.image_processor)
    for name, text, pictures in (("prompt", fields.prompt, images), ("negative_prompt", fields.negative_prompt, [])):
        if text or pictures:
            with bad_requests(name):
                inputs = model.processor(text=text, images=pictures or None, generation_mode="image")
            model.check_length(name.replace("_", " "), inputs["input_ids"].shape[1], name)
    num_pictures = fields.n or 1
    num_at_once = min(max(limits.max_batch_pixels // (height * width), 1), limits.max_batch_size)
    return Painting(
        fields.prompt,
        images,
        fields.negative_prompt,
        fields.painting,
        num_pictures,
        fields.seed,
        num_at_once,
        num_rows=num_pictures * (limits.max_batch_size // num_at_once),
    )


def find_kind(painting: Painting) -> tuple:
    """Returns the settings that requests in one batch must share."""
    return "painting", painting.negative_prompt is None, *sorted(painting.settings.items())


def paint(jobs: Sequence[Job], model: ServedModel) -> list[list[PaintedPicture]]:
    """
    Generates the images of requests of the same kind, in several batches if they are large.

    Args:
        jobs (`Sequence[Job]`):
            Jobs with a [`Painting`] as inputs.
        model (`ServedModel`):
            The model.

    Returns:
        `list[list[PaintedPicture]]`: the images of each request.
    """
    paintings = [job.inputs for job in jobs for _ in range(job.inputs.num_pictures)]
    generators = [generator for job in jobs for generator in _make_generators(job.inputs, model)]
    most = paintings[0].num_at_once
    pictures = (
        picture
        for start in range(0, len(paintings), most)
        for picture in _paint_batch(paintings[start : start + most], generators[start : start + most], jobs, model)
    )
    return [[next(pictures) for _ in range(job.inputs.num_pictures)] for job in jobs]


def _paint_batch(
    paintings: Sequence[Painting], generators: list[torch.Generator], jobs: Sequence[Job], model: ServedModel
) -> list[PaintedPicture]:
    """Generates one image per painting and generator, while a client is waiting for one of the jobs."""
    images = [painting.images for painting in paintings]
    negative_prompts = [painting.negative_prompt for painting in paintings]
    output = model.pipeline(
        [painting.prompt for painting in paintings],
        images=images if any(images) else None,
        negative_prompt=None if negative_prompts[0] is None else negative_prompts,
        generator=generators,
        generation_kwargs={"stopping_criteria": [_Watch(jobs)]},
        callback_on_step_end=lambda pipeline, step, timestep, tensors: check_wanted(jobs) or tensors,
        **paintings[0].settings,
    )
    flags = output.nsfw_content_detected or [None] * len(output.images)
    return [
        PaintedPicture(image, None if flag is None else bool(flag))
        for image, flag in zip(output.images, flags, strict=True)
    ]


class _Watch(StoppingCriteria):
    """Stops the generation of tokens if no client is waiting for the images."""

    def __init__(self, jobs: Sequence[Job]):
        self.jobs = jobs

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        check_wanted(self.jobs)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _make_generators(painting: Painting, model: ServedModel) -> list[torch.Generator]:
    seed = model.seed if painting.seed is None else painting.seed
    if seed is None:
        return [model.make_generator(None) for _ in range(painting.num_pictures)]
    return [model.make_generator((seed + number) % (MAX_SEED + 1)) for number in range(painting.num_pictures)]


def _check_bounds(fields: PaintFields, limits: Limits) -> None:
    bounds = {
        "n": (fields.n, limits.max_pictures),
        "num_inference_steps": (fields.num_inference_steps, limits.max_steps),
        "size": (max(fields.sides.values(), default=None), limits.max_side),
    }
    for name, (value, bound) in bounds.items():
        if value is not None and value > bound:
            raise ApiError(400, f"{name} is {value}, but at most {bound} is allowed.", name)
    pixels = math.prod(fields.sides.values()) if fields.sides else 0
    if pixels > limits.max_batch_pixels:
        most = f"{limits.max_batch_pixels:,}"
        raise ApiError(400, f"size is {fields.size}, {pixels:,} pixels, but at most {most} are allowed.", "size")
    for name, text in (("prompt", fields.prompt), ("negative_prompt", fields.negative_prompt or "")):
        with bad_requests(name):
            limits.inputs.check_text(text)


__all__ = ["PaintedPicture", "Painting", "find_kind", "paint", "prepare_painting"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generates texts about images, for `caption` and `ask`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import BatchFeature

from ..lavit.keep_settings import KEEP_SETTINGS
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from .images import read_batches
from .kept import KeptPatches
from .loading import (
    choose_batch_size,
    find_device,
    load_language_model,
    load_processor,
    make_generator,
    without_library_bars,
)
from .printing import one_line
from .requests import PictureRequest
from .results import show_results


# Settings of the original's evaluation on questions (arXiv 2309.04669), without its minimum length of two tokens,
# which degrades answers of one token.
QUESTION_SETTINGS = {
    "num_beams": 5,
    "early_stopping": True,
    "length_penalty": 0.0,
    "min_new_tokens": 1,
    "max_new_tokens": 10,
}


@dataclass(frozen=True)
class Task:
    """
    A kind of text to generate about images.

    Args:
        name (`str`):
            Name of the text in JSON.
        make_prompt (`Callable`):
            Creates the prompt from the processor, which is the same for all images.
        clean (`Callable`):
            Removes everything from generated texts that was not requested.
        settings (`dict`):
            Arguments of `generate`, in addition to the model's own settings.
    """

    name: str
    make_prompt: Callable[[LaVITProcessor], str]
    clean: Callable[[LaVITProcessor, list[str]], list[str]]
    settings: dict[str, Any] = field(default_factory=dict)

    def prepare(self, processor: LaVITProcessor, image: Image.Image) -> BatchFeature:
        """Prepares the model's inputs for one image."""
        return processor(images=image, text=self.make_prompt(processor), return_tensors="pt")

    def preparer(self, processor: LaVITProcessor) -> Callable[[Image.Image], BatchFeature]:
        """Returns a function that prepares one image after another, and tokenizes their common prompt only once."""
        prompt: dict[str, torch.Tensor] = {}

        def prepare(image: Image.Image) -> BatchFeature:
            if prompt:
                return BatchFeature(prompt | processor.image_processor(image, return_tensors="pt"))
            inputs = self.prepare(processor, image)
            prompt["input_ids"] = inputs["input_ids"]
            return inputs

        return prepare


CAPTION = Task("caption", lambda processor: "", LaVITProcessor.post_process_caption)


def answer_to(question: str) -> Task:
    """Creates the task of answering a question."""
    return Task(
        "answer",
        lambda processor: processor.format_question(question),
        LaVITProcessor.post_process_answer,
        QUESTION_SETTINGS,
    )


class ReadText(NamedTuple):
    """
    A generated text about an image.

    Args:
        text (`str`):
            The text.
        kept ([`KeptPatches`]):
            The kept patches of the image.
    """

    text: str
    kept: KeptPatches


def write_texts(
    task: Task,
    request: PictureRequest,
    wishes: dict[str, Any],
    batch_size: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """
    Generates and prints a text about each image.

    Args:
        task (`Task`):
            The kind of text.
        request (`PictureRequest`):
            The images and the model.
        wishes (`dict`):
            Arguments of `generate` that override the task's, including [`KeepSettings`]; `None` values are ignored.
        batch_size (`int`, *optional*):
            Number of images per batch; [`choose_batch_size`] by default.
        seed (`int`, *optional*):
            Random seed.
        as_json (`bool`):
            Whether to print JSON.
    """
    with without_library_bars(), show_results(len(request.sources), as_json) as results:
        names_patches = any(wishes.get(name) is not None for name in KEEP_SETTINGS)
        generator, seed = make_generator(seed, find_device(request.options.device))
        processor = load_processor(request.repo, request.options)
        batch_size = batch_size or choose_batch_size(request.repo)
        model = None  # loaded once there is an image
        for batch in read_batches(request.sources, batch_size, task.preparer(processor), request.skipped):
            model = model or load_language_model(request.repo, request.options)
            read = read_images(task, [inputs for _, inputs in batch], processor, model, generator, wishes)
            for (source, _), (text, kept) in zip(batch, read):
                fields = {task.name: text} | (kept.fields() if names_patches else {})
                results.add(source, one_line(text), **fields, seed=seed)
                kept.report_if_not_reached(source)
    request.skipped.exit_if_any()


def generate_texts(
    task: Task,
    samples: Sequence[BatchFeature],
    processor: LaVITProcessor,
    model: LaVITForCausalLM,
    generator: torch.Generator,
    wishes: dict[str, Any] | None = None,
) -> list[str]:
    """
    Generates texts about images. [`read_images`] also returns the kept patches.

    Args:
        task, samples, processor, model, generator, wishes:
            As in [`read_images`].

    Returns:
        `list[str]`: one text per image.
    """
    return [text for text, _ in read_images(task, samples, processor, model, generator, wishes)]


def read_images(
    task: Task,
    samples: Sequence[BatchFeature],
    processor: LaVITProcessor,
    model: LaVITForCausalLM,
    generator: torch.Generator,
    wishes: dict[str, Any] | None = None,
) -> list[ReadText]:
    """
    Generates texts about images.

    Args:
        task (`Task`):
            The kind of text.
        samples (`Sequence[BatchFeature]`):
            Output of [`Task.prepare`] for each image.
        processor (`LaVITProcessor`):
            The model's processor.
        model (`LaVITForCausalLM`):
            The model.
        generator (`torch.Generator`):
            Random number generator.
        wishes (`dict`, *optional*):
            Arguments of `generate` that override the task's; `None` values are ignored.

    Returns:
        `list[ReadText]`: one per image.
    """
    inputs = _stack(samples, processor, model)
    settings = _merge_settings(task.settings, wishes or {})
    outputs = model.generate(**inputs, generator=generator, return_dict_in_generate=True, **settings)
    ids = outputs.sequences[:, inputs["input_ids"].shape[1] :]
    texts = task.clean(processor, processor.post_process_image_text_to_text(ids))
    return [*map(ReadText, texts, KeptPatches.of(outputs))]


def _merge_settings(settings: dict[str, Any], wishes: dict[str, Any]) -> dict[str, Any]:
    return settings | {name: value for name, value in wishes.items() if value is not None}


def _stack(
    samples: Sequence[BatchFeature], processor: LaVITProcessor, model: LaVITForCausalLM
) -> dict[str, torch.Tensor]:
    """Batches samples, with prompts padded as by the processor."""
    prompts = {"input_ids": [sample["input_ids"][0].tolist() for sample in samples]}
    inputs = dict(processor.tokenizer.pad(prompts, return_tensors="pt"))
    inputs["pixel_values"] = torch.cat([sample["pixel_values"] for sample in samples]).to(model.dtype)
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}

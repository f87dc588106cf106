# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Texts about images, for `caption` and `ask`."""

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
    find_device,
    load_language_model,
    load_processor,
    make_generator,
    without_library_bars,
)
from .printing import one_line
from .requests import PictureRequest
from .results import show_results


# How the original is evaluated on questions (arXiv 2309.04669), but for its least length of two tokens, which spoils
# answers of one.
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
    What to write about an image.

    Args:
        name (`str`):
            What JSON calls the text.
        make_prompt (`Callable`):
            The prompt, the same for all images, made by the processor.
        clean (`Callable`):
            Cuts generated texts to what was asked for.
        settings (`dict`):
            What `generate` is told beside the model's own settings.
    """

    name: str
    make_prompt: Callable[[LaVITProcessor], str]
    clean: Callable[[LaVITProcessor, list[str]], list[str]]
    settings: dict[str, Any] = field(default_factory=dict)

    def prepare(self, processor: LaVITProcessor, image: Image.Image) -> BatchFeature:
        """The model's inputs for one image."""
        return processor(images=image, text=self.make_prompt(processor), return_tensors="pt")


CAPTION = Task("caption", lambda processor: "", LaVITProcessor.post_process_caption)


def answer_to(question: str) -> Task:
    """The task of answering a question."""
    return Task(
        "answer",
        lambda processor: processor.format_question(question),
        LaVITProcessor.post_process_answer,
        QUESTION_SETTINGS,
    )


class ReadText(NamedTuple):
    """
    What the model wrote about an image.

    Args:
        text (`str`):
            The text.
        kept ([`KeptPatches`]):
            The patches that it was read from.
    """

    text: str
    kept: KeptPatches


def write_texts(
    task: Task,
    request: PictureRequest,
    wishes: dict[str, Any],
    batch_size: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """
    Prints what the model writes about each image.

    Args:
        task (`Task`):
            What to write.
        request (`PictureRequest`):
            The images, and which model.
        wishes (`dict`):
            Settings of `generate` that go before the task's, [`KeepSettings`] among them; `None` is no wish.
        batch_size (`int`):
            Images at once.
        seed (`int`, *optional*):
            Seed of the draws.
        as_json (`bool`):
            Whether to print JSON.
    """
    with without_library_bars(), show_results(len(request.sources), as_json) as results:
        names_patches = any(wishes.get(name) is not None for name in KEEP_SETTINGS)
        generator, seed = make_generator(seed, find_device(request.options.device))
        processor = load_processor(request.repo, request.options)
        model = None  # loaded when there is an image for it
        for batch in read_batches(
            request.sources, batch_size, lambda image: task.prepare(processor, image), request.skipped
        ):
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
    Has the model write about images; [`read_images`] tells the patches too.

    Args:
        task, samples, processor, model, generator, wishes:
            As in [`read_images`].

    Returns:
        `list[str]`: a text for each image.
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
    Has the model write about images.

    Args:
        task (`Task`):
            What to write.
        samples (`Sequence[BatchFeature]`):
            What [`Task.prepare`] made of each image.
        processor (`LaVITProcessor`):
            The model's.
        model (`LaVITForCausalLM`):
            The model.
        generator (`torch.Generator`):
            Source of all draws.
        wishes (`dict`, *optional*):
            Settings of `generate` that go before the task's; `None` is no wish.

    Returns:
        `list[ReadText]`: one for each image.
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
    """One batch of samples, the shorter prompts padded as the processor does it."""
    prompts = {"input_ids": [sample["input_ids"][0].tolist() for sample in samples]}
    inputs = dict(processor.tokenizer.pad(prompts, return_tensors="pt"))
    inputs["pixel_values"] = torch.cat([sample["pixel_values"] for sample in samples]).to(model.dtype)
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}

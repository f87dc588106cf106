# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
LaVIT's versions of transformers' pipelines: they caption images without text, and pass on the generation mode.
"""

from typing import Any

from PIL import Image
from transformers import Pipeline
from transformers.pipelines.any_to_any import AnyToAnyPipeline
from transformers.pipelines.any_to_any import Chat as AnyToAnyChat
from transformers.pipelines.image_text_to_text import ImageTextToTextPipeline
from transformers.utils.chat_template_utils import Chat

from .configuration_lavit import LaVITConfig
from .generation_lavit import agree_on_mode
from .image_loading import load_image
from .input_checks import as_list


class OfLaVIT:
    """
    Base class of LaVIT's pipelines. For other models, it creates transformers' own class, `plain_class`. Answers in
    chats have no leading space.
    """

    plain_class: type[Pipeline]

    def __new__(cls, model: Any = None, *args: Any, **kwargs: Any) -> Pipeline:
        if model is None or model.config.model_type == LaVITConfig.model_type:  # copies are created without a model
            return super().__new__(cls)
        return cls.plain_class(model, *args, **kwargs)

    def postprocess(self, model_outputs: dict, *args: Any, **kwargs: Any) -> list[dict]:
        records = super().postprocess(model_outputs, *args, **kwargs)
        if not isinstance(model_outputs["prompt_text"], Chat | AnyToAnyChat):
            return records
        for record in records:
            if record["input_text"][-1]["role"] == "assistant" or "generated_text" not in record:
                continue  # a continued text
            if isinstance(record["generated_text"], str):
                record["generated_text"] = record["generated_text"].strip()
            elif isinstance(record["generated_text"], list):  # otherwise, an image
                reply = record["generated_text"][-1]
                reply["content"] = reply["content"].strip()
        return records


class LaVITImageTextToTextPipeline(OfLaVIT, ImageTextToTextPipeline):
    """
    Pipeline for the tasks `"image-text-to-text"` and `"image-to-text"` of transformers. Captions images without text,
    as in `pipe("cat.jpg")`.
    """

    plain_class = ImageTextToTextPipeline

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> Any:
        images, text = as_list(images), as_list(text)
        if isinstance(images, list | tuple) and not images:
            raise ValueError("`images` is an empty list. Pass at least one image, or leave it out.")
        if images is not None and isinstance(text, str | list) and not _is_chat(text):
            # Bypass the parent's method, which requires a chat.
            return Pipeline.__call__(self, {"images": images, "text": text}, **kwargs)
        if images is None or text is not None or _is_chat(images):
            return super().__call__(images, text, **kwargs)
        # Bypass the parent's method, which would read a path as text.
        return Pipeline.__call__(self, list(images) if isinstance(images, tuple) else images, captions=True, **kwargs)

    def _sanitize_parameters(
        self, captions: bool = False, generation_mode: str | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        told = {
            name: (kwargs.get(name) or {}).get("generation_mode") for name in ("generate_kwargs", "processor_kwargs")
        }
        agree_on_mode(**{f"the task {self.task}": "text"}, generation_mode=generation_mode, **told)
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        return preprocess | ({"captions": True} if captions else {}), forward, postprocess

    def preprocess(self, inputs: Any = None, captions: bool = False, **kwargs: Any) -> Any:
        if captions and not isinstance(inputs, Chat | dict):
            inputs = {"images": inputs, "text": ""}
        if isinstance(inputs, dict):
            inputs = inputs | {"images": _load(inputs["images"])}
        return super().preprocess(inputs, **kwargs)


class LaVITAnyToAnyPipeline(OfLaVIT, AnyToAnyPipeline):
    """Pipeline for the task `"any-to-any"` of transformers. Also passes `generation_mode` to the processor."""

    plain_class = AnyToAnyPipeline

    def _sanitize_parameters(
        self,
        generation_mode: str | None = None,
        generate_kwargs: dict | None = None,
        processor_kwargs: dict | None = None,
        **kwargs: Any,
    ) -> tuple[dict, dict, dict]:
        generate_kwargs = dict(generate_kwargs or {})
        mode = agree_on_mode(
            generation_mode=generation_mode,
            generate_kwargs=generate_kwargs.pop("generation_mode", None),
            processor_kwargs=(processor_kwargs or {}).get("generation_mode"),
        )
        preprocess, forward, postprocess = super()._sanitize_parameters(
            generation_mode=mode, generate_kwargs=generate_kwargs, processor_kwargs=processor_kwargs, **kwargs
        )
        if mode is not None:
            told = preprocess if processor_kwargs is None else {"processor_kwargs": dict(processor_kwargs)}
            told.get("processor_kwargs", told)["generation_mode"] = mode
            preprocess |= told
        return preprocess, forward, postprocess


def _is_chat(images: Any) -> bool:
    """Whether the images argument is actually a chat or a list of chats, which transformers allows."""
    first = images[0] if isinstance(images, list | tuple) else None
    message = first[0] if isinstance(first, list | tuple) and first else first
    return isinstance(message, dict) and "role" in message


def _load(images: Any) -> Any:
    """Loads images in nested lists. Reads paths and URLs like LaVIT's processor."""
    if isinstance(images, list | tuple):
        return [_load(image) for image in images]
    return images if isinstance(images, Image.Image) else load_image(images)


__all__ = ["LaVITAnyToAnyPipeline", "LaVITImageTextToTextPipeline"]

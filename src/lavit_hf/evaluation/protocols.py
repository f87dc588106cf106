# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols by name: those of the original, and the checkpoint's own settings."""

from dataclasses import dataclass, field
from typing import Any

from ..tasks.failures import Failure


QUESTION_TEMPLATE = "Question: {} Answer:"  # the original's, independent of the checkpoint
ANSWERABLE_QUESTION = 'Is the question: "{}" answerable?'


@dataclass(frozen=True)
class TextProtocol:
    """
    Settings for generating texts about images.

    Args:
        generation (`dict`):
            Arguments of `generate`. If empty, the checkpoint's own settings are used.
        question_template (`str`, *optional*):
            Template of questions. Defaults to the checkpoint's own.
        lemmas (`bool`, *optional*, defaults to `False`):
            Whether to lemmatize answers and annotations before comparing them.
        asks_if_answerable (`bool`, *optional*, defaults to `False`):
            Whether to ask `ANSWERABLE_QUESTION` first. If its answer is "no", the result is "unanswerable".
    """

    generation: dict[str, Any] = field(default_factory=dict)
    question_template: str | None = None
    lemmas: bool = False
    asks_if_answerable: bool = False


@dataclass(frozen=True)
class PaintingProtocol:
    """
    Settings for generating images from texts.

    Args:
        pipeline (`dict`):
            Arguments of the pipeline besides the prompts.
        candidates (`int`, *optional*, defaults to 1):
            Number of candidates per image, from which CLIP chooses the best.
        low_resolution (`bool`, *optional*, defaults to `False`):
            Whether a pixel decoder with the architecture of Stable Diffusion 1.5 is required.
    """

    pipeline: dict[str, Any] = field(default_factory=dict)
    candidates: int = 1
    low_resolution: bool = False


PAPER_QUESTIONS = {
    "do_sample": False,
    "num_beams": 5,
    "early_stopping": True,
    "length_penalty": 0.0,
    "min_new_tokens": 2,
    "max_new_tokens": 10,
}

CAPTIONS = {
    "paper": TextProtocol({"do_sample": False, "num_beams": 2, "min_new_tokens": 8, "max_new_tokens": 36}),
    "own": TextProtocol(),
}
QUESTIONS = {
    "paper": TextProtocol(PAPER_QUESTIONS, QUESTION_TEMPLATE, lemmas=True),
    "own": TextProtocol(),
}
ANSWERABLE_QUESTIONS = {
    "paper": TextProtocol(PAPER_QUESTIONS, QUESTION_TEMPLATE, lemmas=True, asks_if_answerable=True),
    "own": TextProtocol(asks_if_answerable=True),
}
PICTURES = {
    "paper": PaintingProtocol(
        {"llm_guidance_scale": 2.0, "generation_kwargs": {"do_sample": True, "top_k": 200, "temperature": 1.0}},
        candidates=4,
    ),
    "released": PaintingProtocol(
        {
            "llm_guidance_scale": 1.5,
            "generation_kwargs": {"do_sample": True, "top_k": 300},
            "guidance_scale": 1.5,
            "num_inference_steps": 50,
        },
        low_resolution=True,
    ),
    "own": PaintingProtocol(),
}


def find_protocol(protocols: dict[str, Any], name: str, task: str) -> TextProtocol | PaintingProtocol:
    """Returns a task's protocol with this name. Raises a [`Failure`] if there is none."""
    if name not in protocols:
        raise Failure(f"{task} has no protocol {name!r}, only {', '.join(protocols)}.")
    return protocols[name]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Protocols by name: how the original is evaluated, and how a checkpoint reads and paints by its own settings."""

from dataclasses import dataclass, field
from typing import Any

from ..tasks.failures import Failure


QUESTION_TEMPLATE = "Question: {} Answer:"  # the original's, whatever a checkpoint has
ANSWERABLE_QUESTION = 'Is the question: "{}" answerable?'


@dataclass(frozen=True)
class TextProtocol:
    """
    How texts about images are written.

    Args:
        generation (`dict`):
            What `generate` is told. Where it is empty, the checkpoint's own settings decide.
        question_template (`str`, *optional*):
            How questions are put; the checkpoint's own way by default.
        lemmas (`bool`, *optional*, defaults to `False`):
            Whether answers and annotations are brought to their base forms before they are compared.
        asks_if_answerable (`bool`, *optional*, defaults to `False`):
            Whether `ANSWERABLE_QUESTION` comes first, and "no" to it becomes "unanswerable".
    """

    generation: dict[str, Any] = field(default_factory=dict)
    question_template: str | None = None
    lemmas: bool = False
    asks_if_answerable: bool = False


@dataclass(frozen=True)
class PaintingProtocol:
    """
    How images of texts are painted.

    Args:
        pipeline (`dict`):
            What the pipeline is told beside the prompts.
        candidates (`int`, *optional*, defaults to 1):
            How many images of a prompt CLIP chooses the best of.
        low_resolution (`bool`, *optional*, defaults to `False`):
            Whether it takes a pixel decoder of the form of Stable Diffusion 1.5.
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
    """A task's protocol of that name; raises a [`Failure`] where it has none."""
    if name not in protocols:
        raise Failure(f"{task} has no protocol {name!r}, only {', '.join(protocols)}.")
    return protocols[name]

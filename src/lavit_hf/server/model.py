# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The served model."""

import math
import secrets
from dataclasses import dataclass

import torch

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.pipeline_lavit import LaVITPipeline
from ..tasks.loading import make_generator
from ..tasks.options import ModelOptions
from ..tasks.whole_model import load_whole_model
from .errors import context_exceeded
from .fields import MAX_SEED


@dataclass
class ServedModel:
    """
    The model that handles requests.

    Args:
        name (`str`):
            Its id for clients.
        processor (`LaVITProcessor`):
            Its processor.
        language_model (`LaVITForCausalLM`):
            The language model.
        pipeline (`LaVITPipeline`, *optional*):
            The pipeline; `None` without a pixel decoder.
        why_no_pipeline (`str`, *optional*):
            The reason if there is no pipeline.
        seed (`int`, *optional*):
            Random seed for requests without one. By default, the seed varies.
    """

    name: str
    processor: LaVITProcessor
    language_model: LaVITForCausalLM
    pipeline: LaVITPipeline | None = None
    why_no_pipeline: str | None = None
    seed: int | None = None

    @property
    def context(self) -> float:
        """Maximum number of tokens of a prompt and its reply; infinite if the model sets none."""
        context = getattr(self.language_model.config.text_config, "max_position_embeddings", None)
        return math.inf if context is None else context

    def check_length(self, name: str, length: int, param: str) -> None:
        """
        Raises an [`ApiError`] for a prompt that leaves no room in the context, before it waits for the model. How many
        tokens an image takes is only known once the model reads it.
        """
        if length >= self.context:
            message = f"the {name} has {length} tokens, but the model reads at most {self.context}. Shorten it."
            raise context_exceeded(message, param)

    def choose_seed(self, seed: int | None) -> int:
        """Returns the seed of a request: its own, that of the server, or a random one."""
        seed = self.seed if seed is None else seed
        return secrets.randbelow(MAX_SEED) if seed is None else seed

    def make_generator(self, seed: int | None) -> torch.Generator:
        """Creates the random generator for a request."""
        generator, _ = make_generator(self.seed if seed is None else seed, self.language_model.device)
        return generator


def load_served_model(options: ModelOptions, seed: int | None = None) -> ServedModel:
    """
    Loads all models of a repo.

    Args:
        options (`ModelOptions`):
            The model and how to load it.
        seed (`int`, *optional*):
            Random seed for requests without one.
    """
    return ServedModel(*load_whole_model(options), seed)


__all__ = ["ServedModel", "load_served_model"]

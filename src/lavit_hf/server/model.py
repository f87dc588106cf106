# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The served model."""

from dataclasses import dataclass

import torch

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.pipeline_lavit import LaVITPipeline
from ..tasks.loading import make_generator
from ..tasks.options import ModelOptions
from ..tasks.whole_model import load_whole_model


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
            The pipeline; `None` if the repo has no pixel decoder.
        seed (`int`, *optional*):
            Random seed for requests without one. By default, the seed varies.
    """

    name: str
    processor: LaVITProcessor
    language_model: LaVITForCausalLM
    pipeline: LaVITPipeline | None = None
    seed: int | None = None

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

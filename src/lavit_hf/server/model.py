# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The one model that is served."""

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
    What requests are answered by.

    Args:
        name (`str`):
            The id that clients call it by.
        processor (`LaVITProcessor`):
            Its processor.
        language_model (`LaVITForCausalLM`):
            What reads and writes.
        pipeline (`LaVITPipeline`, *optional*):
            What paints; `None` where the repo has no pixel decoder.
        seed (`int`, *optional*):
            Seed of requests that name none; by default they differ.
    """

    name: str
    processor: LaVITProcessor
    language_model: LaVITForCausalLM
    pipeline: LaVITPipeline | None = None
    seed: int | None = None

    def make_generator(self, seed: int | None) -> torch.Generator:
        """A source of all draws of a request."""
        generator, _ = make_generator(self.seed if seed is None else seed, self.language_model.device)
        return generator


def load_served_model(options: ModelOptions, seed: int | None = None) -> ServedModel:
    """
    Loads a model with all that its repo has.

    Args:
        options (`ModelOptions`):
            Which, and how.
        seed (`int`, *optional*):
            Seed of requests that name none.
    """
    return ServedModel(*load_whole_model(options), seed)


__all__ = ["ServedModel", "load_served_model"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The page's model, loaded once."""

from dataclasses import dataclass, field

import torch
from PIL import Image

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.pipeline_lavit import LaVITPipeline
from ..tasks.failures import Failure
from ..tasks.loading import make_generator
from ..tasks.options import ModelOptions
from ..tasks.repo_files import open_repo
from ..tasks.repos import find_repo
from ..tasks.suggestions import Suggestions, read_suggestions
from ..tasks.whole_model import load_whole_model


@dataclass
class PageModel:
    """
    The model shared by the tabs.

    Args:
        name (`str`):
            Name of the model on the page.
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
        suggestions ([`Suggestions`], *optional*):
            Suggested questions and prompts.
    """

    name: str
    processor: LaVITProcessor
    language_model: LaVITForCausalLM
    pipeline: LaVITPipeline | None = None
    why_no_pipeline: str | None = None
    seed: int | None = None
    suggestions: Suggestions = field(default_factory=Suggestions)

    @property
    def visual_tokenizer(self) -> LaVITVisualTokenizer:
        return self.language_model.visual_tokenizer

    @property
    def painter(self) -> LaVITPipeline:
        """The pipeline. Raises a [`Failure`] that says why if there is none."""
        if self.pipeline is None:
            raise Failure(f"{self.name} cannot draw: {self.why_no_pipeline}")
        return self.pipeline

    def prepare(self, *images: Image.Image) -> torch.Tensor:
        """Prepares the pixel values of images, on the device and in the dtype of the model."""
        pixel_values = self.processor.image_processor(list(images), return_tensors="pt").pixel_values
        return pixel_values.to(self.language_model.device, self.visual_tokenizer.dtype)

    def make_generator(self, seed: int | None = None) -> tuple[torch.Generator, int]:
        """Creates a random generator, and returns it with its seed."""
        return make_generator(self.seed if seed is None else seed, self.language_model.device)


def load_page_model(options: ModelOptions, seed: int | None = None) -> PageModel:
    """
    Loads all models of a repo.

    Args:
        options (`ModelOptions`):
            The model and how to load it.
        seed (`int`, *optional*):
            Random seed for requests without one.

    Returns:
        [`PageModel`].
    """
    suggestions = read_suggestions(open_repo(find_repo(options.model)))
    return PageModel(*load_whole_model(options), seed, suggestions)

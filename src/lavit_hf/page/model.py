# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The one model behind the page, loaded once."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.pipeline_lavit import LaVITPipeline
from ..tasks.failures import Failure
from ..tasks.loading import find_device, load_language_model, make_generator, without_library_bars
from ..tasks.options import ModelOptions
from ..tasks.painting import load_pipeline
from ..tasks.pixel_decoders import describe_decoder
from ..tasks.repo_files import open_repo
from ..tasks.repos import find_repo


NO_PIXEL_DECODER = "it has no pixel decoder. Convert it with --pixel-decoder highres or lowres."


@dataclass
class PageModel:
    """
    What the tabs work with.

    Args:
        name (`str`):
            What the page calls the model.
        processor (`LaVITProcessor`):
            Its processor.
        language_model (`LaVITForCausalLM`):
            What reads and writes.
        pipeline (`LaVITPipeline`, *optional*):
            What paints; `None` where the repo has no pixel decoder.
        seed (`int`, *optional*):
            Seed of the draws that name none; by default they differ from run to run.
    """

    name: str
    processor: LaVITProcessor
    language_model: LaVITForCausalLM
    pipeline: LaVITPipeline | None = None
    seed: int | None = None

    @property
    def visual_tokenizer(self) -> LaVITVisualTokenizer:
        return self.language_model.visual_tokenizer

    @property
    def painter(self) -> LaVITPipeline:
        """The pipeline, or a [`Failure`] that says why there is none."""
        if self.pipeline is None:
            raise Failure(f"{self.name} cannot paint: {NO_PIXEL_DECODER}")
        return self.pipeline

    def prepare(self, *images: Image.Image) -> torch.Tensor:
        """The pixel values of pictures, where and in what the model calculates."""
        pixel_values = self.processor.image_processor(list(images), return_tensors="pt").pixel_values
        return pixel_values.to(self.language_model.device, self.visual_tokenizer.dtype)

    def make_generator(self, seed: int | None = None) -> tuple[torch.Generator, int]:
        """A source of all draws, and its seed."""
        return make_generator(self.seed if seed is None else seed, self.language_model.device)


def load_page_model(options: ModelOptions, seed: int | None = None) -> PageModel:
    """
    Loads a model with all that its repo has.

    Args:
        options (`ModelOptions`):
            Which, and how.
        seed (`int`, *optional*):
            Seed of the draws that name none.

    Returns:
        [`PageModel`].
    """
    repo = find_repo(options.model)
    find_device(options.device)  # refused before gigabytes are read
    paints = describe_decoder(open_repo(repo))["pixel_decoder"]["kind"] is not None
    with without_library_bars():
        processor = LaVITProcessor.from_pretrained(repo)
        language_model = load_language_model(repo, options)
        pipeline = load_pipeline(repo, options, processor, language_model) if paints else None
    if pipeline is not None:
        pipeline.set_progress_bar_config(disable=True)  # the page has its own
    return PageModel(Path(repo).name, processor, language_model, pipeline, seed)

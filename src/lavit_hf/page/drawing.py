# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generates images for the *Draw* tab, and reports progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from transformers import StoppingCriteria

from ..lavit.generation_lavit import DEFAULT_IMAGE_GENERATION
from ..pixels.pipeline_lavit import LaVITPipelineOutput
from ..tasks.limits import InputLimits
from ..tasks.loading import make_generator
from ..tasks.options import check_text
from ..tasks.sampling import sampling_settings
from .model import PageModel


Report = Callable[[int, int, str], None]  # (done, total, description)


@dataclass(frozen=True)
class DrawSettings:
    """
    Settings for generating images.

    Args:
        num_images (`int`):
            Number of images.
        steps (`int`):
            Number of denoising steps.
        guidance (`float`):
            Guidance scale of the U-Net.
        token_guidance (`float`):
            Guidance scale of the language model.
        temperature (`float`, *optional*):
            Temperature for tokens; 0 always picks the most likely token. Defaults to the checkpoint's own.
        num_candidates (`int`, *optional*, defaults to 1):
            Number of candidates per image. The one that best matches its tokens is kept.
        seed (`int`, *optional*):
            Random seed. By default, the seed varies.
    """

    num_images: int
    steps: int
    guidance: float
    token_guidance: float
    temperature: float | None = None
    num_candidates: int = 1
    seed: int | None = None


def default_settings(model: PageModel) -> DrawSettings:
    """Returns the settings for one image, with the defaults of the pipeline and the model."""
    pipeline = model.painter
    generation = getattr(model.language_model.generation_config, "image_generation", DEFAULT_IMAGE_GENERATION)
    return DrawSettings(
        num_images=1,
        steps=pipeline.config.default_num_inference_steps,
        guidance=pipeline.config.default_guidance_scale,
        token_guidance=generation.get("guidance_scale", 1.0),
        temperature=generation.get("temperature", 1.0) if generation.get("do_sample", True) else 0.0,
    )


def draw(
    model: PageModel, prompt: str, images: Sequence[Image.Image], settings: DrawSettings, report: Report
) -> tuple[LaVITPipelineOutput, int]:
    """
    Generates images from a prompt.

    Args:
        model (`PageModel`):
            The model.
        prompt (`str`):
            What to generate. `<image>` marks the place of an image.
        images (`Sequence[PIL.Image.Image]`):
            Images of the prompt.
        settings (`DrawSettings`):
            The settings.
        report (`Callable`):
            Called with the progress after each token and each denoising step.

    Returns:
        The images with their tokens, and the seed to reproduce them.
    """
    if prompt or not images:
        check_text(InputLimits().check_text(prompt or ""))
    generator, seed = make_generator(settings.seed, model.language_model.device)
    most_tokens = model.painter.detokenizer.config.num_patches

    def after_step(pipeline, step: int, timestep, tensors: dict) -> dict:
        report(step + 1, pipeline.num_timesteps, "Drawing")
        return tensors

    counter = _TokenCount(lambda count: report(count, most_tokens, "Writing tokens"))
    output = model.painter(
        prompt=prompt,
        images=[list(images)] if images else None,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        llm_guidance_scale=settings.token_guidance,
        num_images_per_prompt=settings.num_images,
        num_candidates=settings.num_candidates,
        generation_kwargs={"stopping_criteria": [counter], **sampling_settings(settings.temperature)},
        generator=generator,
        callback_on_step_end=after_step,
    )
    return output, seed


class _TokenCount(StoppingCriteria):
    """Reports the number of tokens and never stops generation."""

    def __init__(self, tell: Callable[[int], None]):
        self.tell = tell
        self.count = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        self.count += 1
        self.tell(self.count)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

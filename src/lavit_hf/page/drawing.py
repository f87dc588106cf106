# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the *Draw* tab does: images of a prompt, with word of how far they are."""

import inspect
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


Report = Callable[[int, int, str], None]  # (done, total, what is being done)


@dataclass(frozen=True)
class DrawSettings:
    """
    How to draw.

    Args:
        num_images (`int`):
            How many images.
        steps (`int`):
            Denoising steps.
        guidance (`float`):
            Guidance of the U-Net.
        token_guidance (`float`):
            Guidance of the language model.
        temperature (`float`, *optional*):
            Temperature of the tokens; 0 takes the most likely one every time. The checkpoint's own by default.
        num_candidates (`int`, *optional*, defaults to 1):
            How often each image is painted; the one most like its tokens is kept.
        seed (`int`, *optional*):
            Seed of all draws; by default they differ from run to run.
    """

    num_images: int
    steps: int
    guidance: float
    token_guidance: float
    temperature: float | None = None
    num_candidates: int = 1
    seed: int | None = None


def default_settings(model: PageModel) -> DrawSettings:
    """One image, with what the pipeline and the model are set to."""
    pipeline = model.painter
    generation = getattr(model.language_model.generation_config, "image_generation", DEFAULT_IMAGE_GENERATION)
    return DrawSettings(
        num_images=1,
        steps=inspect.signature(pipeline.__call__).parameters["num_inference_steps"].default,
        guidance=pipeline.config.default_guidance_scale,
        token_guidance=generation.get("guidance_scale", 1.0),
        temperature=generation.get("temperature", 1.0) if generation.get("do_sample", True) else 0.0,
    )


def draw(
    model: PageModel, prompt: str, images: Sequence[Image.Image], settings: DrawSettings, report: Report
) -> tuple[LaVITPipelineOutput, int]:
    """
    Draws images of a prompt.

    Args:
        model (`PageModel`):
            The model.
        prompt (`str`):
            What to draw; `<image>` says where an image stands.
        images (`Sequence[PIL.Image.Image]`):
            The prompt's images.
        settings (`DrawSettings`):
            How.
        report (`Callable`):
            Told after each token and each denoising step how far it is.

    Returns:
        The images with their tokens, and the seed that repeats them.
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
    """Never stops, and tells how many tokens there are."""

    def __init__(self, tell: Callable[[int], None]):
        self.tell = tell
        self.count = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        self.count += 1
        self.tell(self.count)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Combines separately trained parts into one pipeline."""

from pathlib import Path

import torch

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.modeling_detokenizer import LaVITDetokenizer
from ..pixels.pipeline_lavit import LaVITPipeline


def load_trained_parts(
    language_model: Path,
    pixel_decoder: Path,
    dtype: torch.dtype,
    guidance: float | None = None,
    steps: int | None = None,
) -> LaVITPipeline:
    """
    Loads the outputs of the training stages into one pipeline.

    Args:
        language_model (`Path`):
            Output folder of `pretrain.py`.
        pixel_decoder (`Path`):
            Output folder of `train_pixel_decoder.py`.
        dtype (`torch.dtype`):
            The dtype in which the parts are loaded and saved.
        guidance (`float`, *optional*):
            Default guidance scale of the pipeline. Defaults to the pipeline's own.
        steps (`int`, *optional*):
            Default number of denoising steps of the pipeline. Defaults to the pipeline's own.

    Returns:
        [`LaVITPipeline`]: The full pipeline, whose `save_pretrained` writes one repo.
    """
    settings = {"default_guidance_scale": guidance, "default_num_inference_steps": steps}
    settings = {name: value for name, value in settings.items() if value is not None}
    # The dtype is passed to each model, so that their configurations contain it too.
    return LaVITPipeline.from_pretrained(
        pixel_decoder,
        language_model=LaVITForCausalLM.from_pretrained(language_model, dtype=dtype),
        processor=LaVITProcessor.from_pretrained(language_model),
        detokenizer=LaVITDetokenizer.from_pretrained(pixel_decoder, subfolder="detokenizer", dtype=dtype),
        dtype=dtype,
        **settings,
    )


__all__ = ["load_trained_parts"]

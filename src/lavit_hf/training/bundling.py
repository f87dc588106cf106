# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the stages trained apart, put together."""

from pathlib import Path

import torch

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.modeling_detokenizer import LaVITDetokenizer
from ..pixels.pipeline_lavit import LaVITPipeline


def load_trained_parts(
    language_model: Path, pixel_decoder: Path, dtype: torch.dtype, guidance: float | None = None
) -> LaVITPipeline:
    """
    Loads what the stages wrote, each into a folder of its own.

    Args:
        language_model (`Path`):
            What `pretrain.py` wrote.
        pixel_decoder (`Path`):
            What `train_pixel_decoder.py` wrote.
        dtype (`torch.dtype`):
            In which the parts are held, and saved.
        guidance (`float`, *optional*):
            The guidance scale that the pipeline paints with by default; its own default if not given.

    Returns:
        [`LaVITPipeline`]: The whole, whose `save_pretrained` writes one repo.
    """
    settings = {} if guidance is None else {"default_guidance_scale": guidance}
    # The dtype is given to each model, so that their configurations name it too.
    return LaVITPipeline.from_pretrained(
        pixel_decoder,
        language_model=LaVITForCausalLM.from_pretrained(language_model, dtype=dtype),
        processor=LaVITProcessor.from_pretrained(language_model),
        detokenizer=LaVITDetokenizer.from_pretrained(pixel_decoder, subfolder="detokenizer", dtype=dtype),
        dtype=dtype,
        **settings,
    )


__all__ = ["load_trained_parts"]

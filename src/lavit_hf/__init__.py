# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT for the Hugging Face ecosystem: one language model that reads and writes images."""

from typing import TYPE_CHECKING

from transformers.utils import is_torchvision_available

from .auto import register_auto_classes
from .configuration_lavit import LaVITConfig, LaVITDetokenizerConfig, LaVITVisualTokenizerConfig
from .image_processing_pil_lavit import LaVITImageProcessorPil
from .modeling_detokenizer import LaVITDetokenizer, LaVITDetokenizerOutput
from .modeling_lavit import LaVITForCausalLM
from .modeling_visual_tokenizer import LaVITVisualTokenizer, LaVITVisualTokenizerOutput
from .processing_lavit import LaVITProcessor
from .remote_code import write_remote_code
from .tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer
from .version import __version__


if TYPE_CHECKING:
    from .pipeline_lavit import LaVITPipeline, LaVITPipelineOutput

if is_torchvision_available():
    from .image_processing_lavit import LaVITImageProcessor
else:
    LaVITImageProcessor = LaVITImageProcessorPil

__all__ = [
    "LaVITConfig",
    "LaVITDetokenizer",
    "LaVITDetokenizerConfig",
    "LaVITDetokenizerOutput",
    "LaVITForCausalLM",
    "LaVITImageProcessor",
    "LaVITImageProcessorPil",
    "LaVITPipeline",
    "LaVITPipelineOutput",
    "LaVITProcessor",
    "LaVITVisualTokenizer",
    "LaVITVisualTokenizerConfig",
    "LaVITVisualTokenizerOutput",
    "__version__",
    "build_tokenizer",
    "load_sentencepiece_tokenizer",
    "write_remote_code",
]

register_auto_classes()


def __getattr__(name: str):
    # Whoever only reads or writes tokens does not wait for diffusers.
    if name in ("LaVITPipeline", "LaVITPipelineOutput"):
        from . import pipeline_lavit

        return getattr(pipeline_lavit, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

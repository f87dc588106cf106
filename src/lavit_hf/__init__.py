# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT for the Hugging Face ecosystem: one language model that reads and writes images."""

from transformers.utils import is_torchvision_available

from .auto import register_auto_classes
from .configuration_lavit import LaVITConfig, LaVITDetokenizerConfig, LaVITVisualTokenizerConfig
from .image_processing_pil_lavit import LaVITImageProcessorPil
from .modeling_lavit import LaVITForCausalLM
from .modeling_visual_tokenizer import LaVITVisualTokenizer, LaVITVisualTokenizerOutput
from .processing_lavit import LaVITProcessor
from .remote_code import write_remote_code
from .tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer
from .version import __version__


if is_torchvision_available():
    from .image_processing_lavit import LaVITImageProcessor
else:
    LaVITImageProcessor = LaVITImageProcessorPil


__all__ = [
    "LaVITConfig",
    "LaVITDetokenizerConfig",
    "LaVITForCausalLM",
    "LaVITImageProcessor",
    "LaVITImageProcessorPil",
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

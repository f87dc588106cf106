# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT for the Hugging Face ecosystem: one language model that reads and writes images."""

from importlib import import_module
from typing import TYPE_CHECKING

from transformers.utils import is_torchvision_available

from .auto import register_auto_classes
from .bundled import bundled_checkpoint
from .lavit.configuration_lavit import LaVITConfig, LaVITDetokenizerConfig, LaVITVisualTokenizerConfig
from .lavit.image_processing_pil_lavit import LaVITImageProcessorPil
from .hub.model_card import create_model_card
from .pixels.modeling_detokenizer import LaVITDetokenizer, LaVITDetokenizerOutput
from .lavit.modeling_lavit import LaVITForCausalLM
from .lavit.modeling_visual_tokenizer import LaVITVisualTokenizer, LaVITVisualTokenizerOutput
from .lavit.processing_lavit import LaVITProcessor
from .lavit.remote_code import write_remote_code
from .lavit.tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer
from .version import __version__


if TYPE_CHECKING:
    from .training.modeling_lavit_pretraining import LaVITForPreTraining, LaVITForPreTrainingOutput
    from .training.modeling_patch_autoencoder_training import PatchAutoencoderForTraining, PatchAutoencoderTrainingOutput
    from .training.modeling_pixel_decoder_training import LaVITPixelDecoderForTraining, LaVITPixelDecoderTrainingOutput
    from .training.modeling_visual_tokenizer_pretraining import (
        LaVITVisualTokenizerForPreTraining,
        LaVITVisualTokenizerForPreTrainingOutput,
    )
    from .pixels.small.patch_autoencoder import PatchAutoencoder
    from .pixels.pipeline_lavit import LaVITPipeline, LaVITPipelineOutput

if is_torchvision_available():
    from .lavit.image_processing_lavit import LaVITImageProcessor
else:
    LaVITImageProcessor = LaVITImageProcessorPil

__all__ = [
    "LaVITConfig",
    "LaVITDetokenizer",
    "LaVITDetokenizerConfig",
    "LaVITDetokenizerOutput",
    "LaVITForCausalLM",
    "LaVITForPreTraining",
    "LaVITForPreTrainingOutput",
    "LaVITImageProcessor",
    "LaVITImageProcessorPil",
    "LaVITPipeline",
    "LaVITPipelineOutput",
    "LaVITPixelDecoderForTraining",
    "LaVITPixelDecoderTrainingOutput",
    "LaVITProcessor",
    "LaVITVisualTokenizer",
    "LaVITVisualTokenizerConfig",
    "LaVITVisualTokenizerForPreTraining",
    "LaVITVisualTokenizerForPreTrainingOutput",
    "LaVITVisualTokenizerOutput",
    "PatchAutoencoder",
    "PatchAutoencoderForTraining",
    "PatchAutoencoderTrainingOutput",
    "__version__",
    "build_tokenizer",
    "bundled_checkpoint",
    "create_model_card",
    "load_sentencepiece_tokenizer",
    "write_remote_code",
]

# Whoever only reads or writes tokens waits neither for diffusers nor for what trains.
_LAZY = {
    "LaVITForPreTraining": ".modeling_lavit_pretraining",
    "LaVITForPreTrainingOutput": ".modeling_lavit_pretraining",
    "LaVITPipeline": ".pipeline_lavit",
    "LaVITPipelineOutput": ".pipeline_lavit",
    "LaVITPixelDecoderForTraining": ".modeling_pixel_decoder_training",
    "LaVITPixelDecoderTrainingOutput": ".modeling_pixel_decoder_training",
    "LaVITVisualTokenizerForPreTraining": ".modeling_visual_tokenizer_pretraining",
    "LaVITVisualTokenizerForPreTrainingOutput": ".modeling_visual_tokenizer_pretraining",
    "PatchAutoencoder": ".patch_autoencoder",
    "PatchAutoencoderForTraining": ".modeling_patch_autoencoder_training",
    "PatchAutoencoderTrainingOutput": ".modeling_patch_autoencoder_training",
}

register_auto_classes()


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

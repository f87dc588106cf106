# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0

from .bundled import bundled_checkpoint
from .hub.model_card import create_model_card
from .lavit.configuration_lavit import LaVITConfig, LaVITDetokenizerConfig, LaVITVisualTokenizerConfig
from .lavit.image_processing_pil_lavit import LaVITImageProcessorPil
from .lavit.modeling_lavit import LaVITForCausalLM, LaVITModel
from .lavit.modeling_visual_tokenizer import LaVITVisualTokenizer, LaVITVisualTokenizerOutput
from .lavit.processing_lavit import LaVITProcessor
from .lavit.remote_code import write_remote_code
from .lavit.tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer
from .pixels.modeling_detokenizer import LaVITDetokenizer, LaVITDetokenizerOutput
from .pixels.pipeline_lavit import LaVITPipeline, LaVITPipelineOutput
from .pixels.small.patch_autoencoder import PatchAutoencoder
from .training.modeling_lavit_pretraining import LaVITForPreTraining, LaVITForPreTrainingOutput
from .training.modeling_patch_autoencoder_training import PatchAutoencoderForTraining, PatchAutoencoderTrainingOutput
from .training.modeling_pixel_decoder_training import LaVITPixelDecoderForTraining, LaVITPixelDecoderTrainingOutput
from .training.modeling_selection_training import (
    LaVITTokenSelectionForPreTraining,
    LaVITTokenSelectionForPreTrainingOutput,
)
from .training.modeling_visual_tokenizer_pretraining import (
    LaVITVisualTokenizerForPreTraining,
    LaVITVisualTokenizerForPreTrainingOutput,
)
from .version import __version__
from .wiring import LaVITImageProcessor, register_auto_classes

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
    "LaVITModel",
    "LaVITPipeline",
    "LaVITPipelineOutput",
    "LaVITPixelDecoderForTraining",
    "LaVITPixelDecoderTrainingOutput",
    "LaVITProcessor",
    "LaVITTokenSelectionForPreTraining",
    "LaVITTokenSelectionForPreTrainingOutput",
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
    "register_auto_classes",
    "write_remote_code",
]

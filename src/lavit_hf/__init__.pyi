# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
# What is public, and where it is.
from .bundled import bundled_checkpoint as bundled_checkpoint
from .hub.model_card import create_model_card as create_model_card
from .lavit.configuration_lavit import LaVITConfig as LaVITConfig
from .lavit.configuration_lavit import LaVITDetokenizerConfig as LaVITDetokenizerConfig
from .lavit.configuration_lavit import LaVITVisualTokenizerConfig as LaVITVisualTokenizerConfig
from .lavit.image_processing_pil_lavit import LaVITImageProcessorPil as LaVITImageProcessorPil
from .lavit.modeling_lavit import LaVITForCausalLM as LaVITForCausalLM
from .lavit.modeling_lavit import LaVITModel as LaVITModel
from .lavit.modeling_visual_tokenizer import LaVITVisualTokenizer as LaVITVisualTokenizer
from .lavit.modeling_visual_tokenizer import LaVITVisualTokenizerOutput as LaVITVisualTokenizerOutput
from .lavit.processing_lavit import LaVITProcessor as LaVITProcessor
from .lavit.remote_code import write_remote_code as write_remote_code
from .lavit.tokenization_lavit import build_tokenizer as build_tokenizer
from .lavit.tokenization_lavit import load_sentencepiece_tokenizer as load_sentencepiece_tokenizer
from .pixels.modeling_detokenizer import LaVITDetokenizer as LaVITDetokenizer
from .pixels.modeling_detokenizer import LaVITDetokenizerOutput as LaVITDetokenizerOutput
from .pixels.pipeline_lavit import LaVITPipeline as LaVITPipeline
from .pixels.pipeline_lavit import LaVITPipelineOutput as LaVITPipelineOutput
from .pixels.small.patch_autoencoder import PatchAutoencoder as PatchAutoencoder
from .training.modeling_lavit_pretraining import LaVITForPreTraining as LaVITForPreTraining
from .training.modeling_lavit_pretraining import LaVITForPreTrainingOutput as LaVITForPreTrainingOutput
from .training.modeling_patch_autoencoder_training import PatchAutoencoderForTraining as PatchAutoencoderForTraining
from .training.modeling_patch_autoencoder_training import (
    PatchAutoencoderTrainingOutput as PatchAutoencoderTrainingOutput,
)
from .training.modeling_pixel_decoder_training import LaVITPixelDecoderForTraining as LaVITPixelDecoderForTraining
from .training.modeling_pixel_decoder_training import (
    LaVITPixelDecoderTrainingOutput as LaVITPixelDecoderTrainingOutput,
)
from .training.modeling_selection_training import (
    LaVITTokenSelectionForPreTraining as LaVITTokenSelectionForPreTraining,
)
from .training.modeling_selection_training import (
    LaVITTokenSelectionForPreTrainingOutput as LaVITTokenSelectionForPreTrainingOutput,
)
from .training.modeling_visual_tokenizer_pretraining import (
    LaVITVisualTokenizerForPreTraining as LaVITVisualTokenizerForPreTraining,
)
from .training.modeling_visual_tokenizer_pretraining import (
    LaVITVisualTokenizerForPreTrainingOutput as LaVITVisualTokenizerForPreTrainingOutput,
)
from .version import __version__ as __version__
from .wiring import LaVITImageProcessor as LaVITImageProcessor
from .wiring import register_auto_classes as register_auto_classes

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Registration on `import lavit_hf`: adds LaVIT to transformers' Auto classes and pipelines, and model cards to uploads.
"""

from huggingface_hub import ModelCard
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import is_torchvision_available

from .hub.model_card import create_model_card
from .hub.upload import pushes_with_card
from .lavit.configuration_lavit import LaVITConfig, LaVITDetokenizerConfig, LaVITVisualTokenizerConfig
from .lavit.image_processing_pil_lavit import LaVITImageProcessorPil
from .lavit.modeling_lavit import LaVITForCausalLM
from .lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from .lavit.processing_lavit import LaVITProcessor
from .pixels.modeling_detokenizer import LaVITDetokenizer


IMAGE_PROCESSORS: dict[str, type] = {"pil": LaVITImageProcessorPil}
if is_torchvision_available():
    from .lavit.image_processing_lavit import LaVITImageProcessor

    IMAGE_PROCESSORS["torchvision"] = LaVITImageProcessor
else:
    LaVITImageProcessor = LaVITImageProcessorPil


def _make_card(model: LaVITForCausalLM, repo_id: str) -> ModelCard:
    return create_model_card(model.config, repo_id.split("/")[-1], repo=repo_id, num_parameters=model.num_parameters())


# As dotted names, like in transformers, so that they are only imported when a pipeline is created. For other models,
# they create transformers' own pipelines, so nothing changes for those.
TASK_PIPELINES = {
    "any-to-any": f"{__package__}.lavit.task_pipelines.LaVITAnyToAnyPipeline",
    "image-text-to-text": f"{__package__}.lavit.task_pipelines.LaVITImageTextToTextPipeline",
}

# The model itself contains no code for the Hub beyond that of transformers.
pushes_with_card(_make_card)(LaVITForCausalLM)


def register_auto_classes() -> None:
    """Registers LaVIT with all Auto classes and pipelines of transformers. Can safely be called again."""
    for config_class in (LaVITConfig, LaVITVisualTokenizerConfig):
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        AutoImageProcessor.register(config_class, image_processor_classes=IMAGE_PROCESSORS, exist_ok=True)
    AutoConfig.register(LaVITDetokenizerConfig.model_type, LaVITDetokenizerConfig, exist_ok=True)
    AutoModel.register(LaVITDetokenizerConfig, LaVITDetokenizer, exist_ok=True)
    AutoModel.register(LaVITVisualTokenizerConfig, LaVITVisualTokenizer, exist_ok=True)
    for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM):
        auto_class.register(LaVITConfig, LaVITForCausalLM, exist_ok=True)
    AutoProcessor.register(LaVITConfig, LaVITProcessor, exist_ok=True)
    for task, name in TASK_PIPELINES.items():
        PIPELINE_REGISTRY.supported_tasks[task]["impl"] = name
    # Trainer's label smoothing looks up here whether labels are shifted.
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[LaVITConfig.model_type] = LaVITForCausalLM.__name__


__all__ = ["LaVITImageProcessor", "register_auto_classes"]

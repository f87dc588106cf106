# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of an original LaVIT checkpoint to the Hugging Face format."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ..hub.model_card import create_model_card, write_model_card
from ..hub.pipeline_code import write_pipeline_code
from ..hub.repo_layout import LANGUAGE_MODEL_FOLDER, PROCESSOR_FOLDER
from ..lavit.atomic_files import atomic_folder
from ..lavit.checkpoint_index import MAX_SHARD_SIZE, write_visual_tokenizer_index
from ..lavit.configuration_lavit import LaVITConfig, LaVITVisualTokenizerConfig
from ..lavit.generation_lavit import DEFAULT_IMAGE_GENERATION
from ..lavit.image_processing_pil_lavit import LaVITImageProcessorPil
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..lavit.remote_code import write_remote_code
from ..lavit.tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer
from ..pixels.pipeline_lavit import LaVITPipeline
from .errors import ConversionError, conversion_errors
from .folders import check_folders
from .inference import infer_config
from .layout import (
    ENCODER,
    LANGUAGE_MODEL,
    ORIGINAL_LANGUAGE_MODEL_FOLDER,
    PIXEL_DECODERS,
    TOKENIZER,
    UNDERSTANDING,
    FileLayout,
)
from .pixel_decoder import plan_pixel_decoder
from .plan import LazyTensor, PlannedModel, building_model, plan_file
from .reading import check_config, check_is_file, check_links, find_weights, read_tensors
from .writing import write_shards


# Settings in an original's config that would make `from_pretrained` run code or read files outside the new checkpoint.
UNWANTED_SETTINGS = ("auto_map", "quantization_config", "transformers_weights")

# Text generation as released: a caption.
TEXT_GENERATION = {"num_beams": 2, "min_new_tokens": 8, "max_new_tokens": 36}


def convert_checkpoint(
    source: str | Path,
    destination: str | Path,
    num_attention_heads: int = LaVITVisualTokenizerConfig.num_attention_heads,
    dtype: torch.dtype | None = None,
    max_shard_size: str = MAX_SHARD_SIZE,
    pixel_decoder: str = "none",
    allow_nan: bool = False,
) -> Path:
    """
    Converts an original LaVIT checkpoint. The result behaves like the release: patches are sampled, and the merger
    uses the original softmax. It is safe to convert untrusted checkpoints: no code in them is run, and no files
    outside `source` are read.

    Args:
        source (`str` or `Path`):
            The original's top folder, which contains `visual_tokenizer/` and `language_model/`.
        destination (`str` or `Path`):
            The folder to create. It appears only once everything is written. Files left next to it by an interrupted
            conversion are removed.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Number of attention heads in the encoder, merger and detokenizer, which original checkpoints don't specify.
        dtype (`torch.dtype`, *optional*):
            Dtype to cast the weights to. By default, they aren't cast.
        max_shard_size (`str`, *optional*, defaults to `"1GB"`):
            Maximum size of a weight file, which is also about the memory that the conversion needs.
        pixel_decoder (`str`, *optional*, defaults to `"none"`):
            `"highres"` or `"lowres"` includes one of the release's two pixel decoders, and creates a repo for both
            transformers and diffusers. `"none"` creates a model that only reads and writes image tokens.
        allow_nan (`bool`, *optional*, defaults to `False`):
            Whether to allow NaN or infinite weights, which indicate a damaged checkpoint.

    Returns:
        `Path`: `destination`.

    Raises:
        ConversionError: If the source is incomplete or damaged, contains unknown tensors or doesn't fit
            `num_attention_heads`.
        OSError: If the destination can't be written.
        FileExistsError: If `destination` exists, or another process is creating it.
        ValueError: If `pixel_decoder` is unknown.
    """
    if pixel_decoder not in ("none", *PIXEL_DECODERS):
        raise ValueError(f"unknown pixel_decoder {pixel_decoder!r}. Choose one of none, {', '.join(PIXEL_DECODERS)}.")
    source, destination = Path(source), Path(destination)
    check_folders(source, destination)
    check_links(source)
    problem = f"{source} cannot be converted: one of its files is damaged or belongs to another model."
    with atomic_folder(destination) as stage:
        with conversion_errors(problem):
            models, others = _plan_parts(source, num_attention_heads, pixel_decoder)
            pipeline = None if pixel_decoder == "none" else _empty_pipeline(models, others)
        with conversion_errors(problem, passed=(OSError, MemoryError)):
            for folder, model in models.items():
                write_model(model, stage / folder, max_shard_size, dtype, allow_nan)
            for folder, component in others.items():
                component.save_pretrained(stage / folder)
            if pipeline is None:
                _finish_model_repo(stage, models[""].model)
            else:
                pipeline.save_config(stage)
                write_pipeline_code(stage)
    return destination


def _plan_parts(
    source: Path, num_attention_heads: int, pixel_decoder: str
) -> tuple[dict[str, PlannedModel], dict[str, Any]]:
    """Returns the models and the other components of the new checkpoint by their folders."""
    language_model = _plan_language_model(source, num_attention_heads)
    config = language_model.model.config
    text_tokenizer = _text_tokenizer(
        source / ORIGINAL_LANGUAGE_MODEL_FOLDER, config.text_config.max_position_embeddings
    )
    processor = build_processor(text_tokenizer, config)
    if pixel_decoder == "none":
        return {"": language_model}, {"": processor}
    models, others = plan_pixel_decoder(source, PIXEL_DECODERS[pixel_decoder], num_attention_heads)
    return {**models, LANGUAGE_MODEL_FOLDER: language_model}, {**others, PROCESSOR_FOLDER: processor}


def _finish_model_repo(folder: Path, model: LaVITForCausalLM) -> None:
    write_remote_code(folder)
    write_model_card(folder, create_model_card(model.config, num_parameters=model.num_parameters()))


def plan_checkpoint(source: Path) -> dict[str, LazyTensor]:
    """Plans how to create each tensor of the converted language model from the files in `source`."""
    plan: dict[str, LazyTensor] = {}
    for layout in (ENCODER, TOKENIZER, UNDERSTANDING, LANGUAGE_MODEL):
        plan |= plan_file(layout, read_tensors(_weights_path(source, layout)))
    return plan


def write_model(
    planned: PlannedModel, folder: Path, max_shard_size: str, dtype: torch.dtype | None, allow_nan: bool = False
) -> None:
    """
    Writes the weights and configs of a model.

    Args:
        planned (`PlannedModel`):
            The model.
        folder (`Path`):
            Where to write.
        max_shard_size (`str`):
            Maximum size of a file.
        dtype (`torch.dtype`, *optional*):
            Dtype to cast the weights to. By default, they aren't cast.
        allow_nan (`bool`, *optional*, defaults to `False`):
            Whether to allow NaN or infinite weights.
    """
    model = planned.model
    write_shards(planned.plan, planned.specs, folder, max_shard_size, dtype, planned.weights_name, allow_nan)
    if isinstance(model, ModelMixin):
        model.save_config(folder)
        return
    model.config.dtype = dtype or _main_dtype(planned.specs.values())
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if isinstance(model, LaVITForCausalLM):
        model.generation_config.save_pretrained(folder)
        write_visual_tokenizer_index(folder)


def _main_dtype(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    """Returns the floating-point dtype of most bytes. A checkpoint can mix dtypes, but is loaded in one."""
    num_bytes = Counter()
    for tensor in tensors:
        num_bytes[tensor.dtype] += tensor.nbytes if tensor.is_floating_point() else 0
    return num_bytes.most_common(1)[0][0]


def _plan_language_model(source: Path, num_attention_heads: int) -> PlannedModel:
    plan = plan_checkpoint(source)
    specs = {name: make().to("meta") for name, make in plan.items()}
    config_file = source / ORIGINAL_LANGUAGE_MODEL_FOLDER / CONFIG_NAME
    with (
        conversion_errors(f"{config_file} does not describe a model, or not the model of the tensors."),
        building_model(len(plan)),
    ):
        config = infer_config(specs, _text_config(config_file), num_attention_heads)
        model = LaVITForCausalLM(config)
        model.generation_config = released_generation_config(config)
    return PlannedModel(model, plan, SAFE_WEIGHTS_NAME)


def _empty_pipeline(models: dict[str, PlannedModel], others: dict[str, Any]) -> LaVITPipeline:
    """Creates the pipeline without weights, to check that its components fit together."""
    components = others | {name: planned.model for name, planned in models.items()}
    wanted = components["unet"].config.cross_attention_dim
    given = sum(components["detokenizer"].config.cross_attention_dims)
    if wanted != given:
        raise ConversionError(f"the detokenizer's condition has width {given}, but the U-Net needs {wanted}.")
    try:
        return LaVITPipeline(**components)
    except ValueError as error:
        raise ConversionError(f"the pixel decoder does not fit the rest of the checkpoint: {error}") from error


def _weights_path(source: Path, layout: FileLayout) -> Path:
    path = source / layout.path
    return find_weights(path, layout.names) if layout.names else path


def _text_config(path: Path) -> PreTrainedConfig:
    check_config(path)
    with conversion_errors(f"{path} is not a readable config.json of a language model."):
        config = AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
    for name in UNWANTED_SETTINGS:
        if hasattr(config, name):
            delattr(config, name)
    config.name_or_path = ""  # don't reveal where the original was
    return config


def released_generation_config(config: LaVITConfig) -> GenerationConfig:
    """Returns the release's generation settings: captions, and images with guidance."""
    text_config = config.text_config
    return GenerationConfig(
        bos_token_id=text_config.bos_token_id,
        eos_token_id=text_config.eos_token_id,
        pad_token_id=text_config.pad_token_id,
        image_generation=DEFAULT_IMAGE_GENERATION,
        **TEXT_GENERATION,
    )


def build_processor(text_tokenizer: PreTrainedTokenizerFast, config: LaVITConfig) -> LaVITProcessor:
    """Builds the processor of a model with this configuration from its text tokenizer."""
    visual_config = config.visual_tokenizer_config
    size = {"height": visual_config.image_size, "width": visual_config.image_size}
    tokenizer = build_tokenizer(
        text_tokenizer, codebook_size=visual_config.codebook_size, text_vocab_size=config.text_vocab_size
    )
    return LaVITProcessor(image_processor=LaVITImageProcessorPil(size=size), tokenizer=tokenizer)


def _text_tokenizer(folder: Path, model_max_length: int) -> PreTrainedTokenizerFast:
    file = folder / "tokenizer.model"
    check_is_file(file)
    with conversion_errors(f"{file} is damaged. Download it again."):
        return load_sentencepiece_tokenizer(folder, model_max_length=model_max_length)

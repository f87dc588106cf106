# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of an original LaVIT checkpoint folder into a Hugging Face one."""

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
from .reading import check_config, check_links, find_weights, read_tensors
from .writing import write_shards


# What of an original's config would make `from_pretrained` run code or read other files than the new checkpoint's.
UNWANTED_SETTINGS = ("auto_map", "quantization_config", "transformers_weights")

# Reading as released: a caption.
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
    Converts an original LaVIT checkpoint. The result is set to the release's own behavior: patches are sampled and
    the merger uses the original softmax.

    Args:
        source (`str` or `Path`):
            The original's top folder, which holds `visual_tokenizer/` and `language_model/`.
        destination (`str` or `Path`):
            The folder to make. It appears only when everything was written; what a killed conversion to it left beside
            it is removed.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Heads of encoder, merger and detokenizer, which an original checkpoint does not tell.
        dtype (`torch.dtype`, *optional*):
            What the weights are cast to. They keep their own by default.
        max_shard_size (`str`, *optional*, defaults to `"1GB"`):
            Largest size of a weight file, and about the memory that conversion needs.
        pixel_decoder (`str`, *optional*, defaults to `"none"`):
            `"highres"` or `"lowres"` takes one of the release's two pixel decoders along, and makes the folder a repo
            for transformers and diffusers alike. `"none"` makes one that reads and writes image tokens only.
        allow_nan (`bool`, *optional*, defaults to `False`):
            Whether weights that are NaN or infinite are taken along. A damaged checkpoint holds such.

    Returns:
        `Path`: `destination`.

    Raises:
        ConversionError: If the source is incomplete or damaged, holds unknown tensors or does not fit
            `num_attention_heads`. It may come from anyone: nothing in it runs, and nothing outside it is read.
        OSError: If the destination cannot be written.
        FileExistsError: If `destination` exists, or another process is just making it.
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
    """The models and the other parts of the new checkpoint, by the folders that they go to."""
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
    """How every tensor of the converted language model is made from the files in `source`."""
    plan: dict[str, LazyTensor] = {}
    for layout in (ENCODER, TOKENIZER, UNDERSTANDING, LANGUAGE_MODEL):
        plan |= plan_file(layout, read_tensors(_weights_path(source, layout)))
    return plan


def write_model(
    planned: PlannedModel, folder: Path, max_shard_size: str, dtype: torch.dtype | None, allow_nan: bool = False
) -> None:
    """
    Writes weights and configs of a model.

    Args:
        planned (`PlannedModel`):
            The model.
        folder (`Path`):
            Where to write.
        max_shard_size (`str`):
            Largest size of a file.
        dtype (`torch.dtype`, *optional*):
            What the weights are cast to. They keep their own by default.
        allow_nan (`bool`, *optional*, defaults to `False`):
            Whether weights that are NaN or infinite are written too.
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
    """The floating dtype of most bytes: a checkpoint may mix them, and is loaded in one."""
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
    """The pipeline without weights, which shows whether its components fit each other."""
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
    config.name_or_path = ""  # where the original lay is nobody's business
    return config


def released_generation_config(config: LaVITConfig) -> GenerationConfig:
    """The release's own settings of generation: captions, and images with guidance."""
    text_config = config.text_config
    return GenerationConfig(
        bos_token_id=text_config.bos_token_id,
        eos_token_id=text_config.eos_token_id,
        pad_token_id=text_config.pad_token_id,
        image_generation=DEFAULT_IMAGE_GENERATION,
        **TEXT_GENERATION,
    )


def build_processor(text_tokenizer: PreTrainedTokenizerFast, config: LaVITConfig) -> LaVITProcessor:
    """The processor of a model with this configuration, out of its text tokenizer."""
    visual_config = config.visual_tokenizer_config
    size = {"height": visual_config.image_size, "width": visual_config.image_size}
    tokenizer = build_tokenizer(
        text_tokenizer, codebook_size=visual_config.codebook_size, text_vocab_size=config.text_vocab_size
    )
    return LaVITProcessor(image_processor=LaVITImageProcessorPil(size=size), tokenizer=tokenizer)


def _text_tokenizer(folder: Path, model_max_length: int) -> PreTrainedTokenizerFast:
    with conversion_errors(f"{folder / 'tokenizer.model'} is missing or damaged. Download it again."):
        return load_sentencepiece_tokenizer(folder, model_max_length=model_max_length)

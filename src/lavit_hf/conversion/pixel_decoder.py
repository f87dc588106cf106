# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of the original's detokenizers and diffusion models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, DDIMScheduler, ModelMixin, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import SchedulerMixin
from diffusers.schedulers.scheduling_utils import SCHEDULER_CONFIG_NAME
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME as DIFFUSERS_SAFE_WEIGHTS_NAME
from transformers import CLIPImageProcessorPil, PreTrainedModel
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, SAFE_WEIGHTS_NAME

from ..pixels.modeling_detokenizer import LaVITDetokenizer
from .errors import ConversionError, conversion_errors
from .inference import infer_detokenizer_config
from .layout import PixelDecoderLayout
from .plan import LazyTensor, PlannedModel, building_model, plan_file
from .reading import check_config, find_weights, read_tensor, read_tensors


MODEL_CLASSES = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "safety_checker": StableDiffusionSafetyChecker,
}


def plan_pixel_decoder(
    source: Path, layout: PixelDecoderLayout, num_attention_heads: int
) -> tuple[dict[str, PlannedModel], dict[str, Any]]:
    """
    Plans how to create the models of a pixel decoder.

    Args:
        source (`Path`):
            The original's top folder.
        layout (`PixelDecoderLayout`):
            The layout of the pixel decoder.
        num_attention_heads (`int`):
            Number of attention heads in the detokenizer, which can't be inferred from tensors.

    Returns:
        The pipeline's models to write, and its components without weights, both by name.

    Raises:
        ConversionError: If a file is missing or damaged, or doesn't fit its model.
    """
    folder = source / layout.folder
    models = {"detokenizer": _plan_detokenizer(source, layout, num_attention_heads)}
    models |= {name: _plan_model(source, layout, name) for name in layout.models}
    others = {"scheduler": _load_scheduler(folder / "scheduler")}
    if layout.feature_extractor:
        config = folder / "feature_extractor" / IMAGE_PROCESSOR_NAME
        others["feature_extractor"] = _load(CLIPImageProcessorPil.from_pretrained, config)
    return models, others


def _plan_detokenizer(source: Path, layout: PixelDecoderLayout, num_attention_heads: int) -> PlannedModel:
    plan = plan_file(layout.detokenizer, read_tensors(source / layout.detokenizer.path))
    if layout.negative_embeds is not None:
        path = source / layout.folder / layout.negative_embeds
        negative_embeds = read_tensor(path)
        if negative_embeds.ndim != 3:
            raise ConversionError(f"{path} must have three axes, got shape {tuple(negative_embeds.shape)}.")
        plan["negative_embeds"] = LazyTensor(torch.Tensor.detach, negative_embeds)
    config = infer_detokenizer_config({name: make().to("meta") for name, make in plan.items()}, num_attention_heads)
    with building_model(len(plan)):
        return PlannedModel(LaVITDetokenizer(config), plan, SAFE_WEIGHTS_NAME)


def _plan_model(source: Path, layout: PixelDecoderLayout, component: str) -> PlannedModel:
    files = layout.model_files(component)
    folder = source / files.path
    plan = plan_file(files, read_tensors(find_weights(folder, files.names)))
    with building_model(len(plan)):
        model = _load(empty_model, folder / CONFIG_NAME, MODEL_CLASSES[component])
    weights_name = DIFFUSERS_SAFE_WEIGHTS_NAME if isinstance(model, ModelMixin) else SAFE_WEIGHTS_NAME
    return PlannedModel(model, plan, weights_name)


def empty_model(folder: Path, model_class: type) -> ModelMixin | PreTrainedModel:
    """
    Creates a model on the meta device, without weights.

    Args:
        folder (`Path`):
            Folder of its config.
        model_class (`type`):
            Its class in transformers or diffusers.
    """
    with torch.device("meta"):
        if issubclass(model_class, PreTrainedModel):
            return model_class(model_class.config_class.from_pretrained(folder))
        return model_class.from_config(model_class.load_config(folder))


def _load_scheduler(folder: Path) -> SchedulerMixin:
    # Works for any scheduler, because it only reads the config in the folder.
    config = _load(DDIMScheduler.load_config, folder / SCHEDULER_CONFIG_NAME)
    name = config.get("_class_name")
    scheduler_class = getattr(diffusers, str(name), None)
    if not (isinstance(scheduler_class, type) and issubclass(scheduler_class, SchedulerMixin)):
        raise ConversionError(f"{folder} names {name}, which is not a scheduler of diffusers.")
    with conversion_errors(f"the {SCHEDULER_CONFIG_NAME} in {folder} does not describe a scheduler."):
        return scheduler_class.from_config(config)


def _load(load: Callable, config: Path, *args) -> Any:
    """Calls a library's `load` on the folder of a config."""
    check_config(config)
    with conversion_errors(f"{config} cannot be used."):
        return load(config.parent, *args)

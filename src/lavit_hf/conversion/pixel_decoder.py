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
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME as DIFFUSERS_SAFE_WEIGHTS_NAME
from transformers import CLIPImageProcessorPil, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME

from ..pixels.modeling_detokenizer import LaVITDetokenizer
from .errors import ConversionError
from .inference import infer_detokenizer_config
from .layout import PixelDecoderLayout
from .plan import LazyTensor, PlannedModel, plan_file
from .reading import find_weights, read_tensor, read_tensors


MODEL_CLASSES = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "safety_checker": StableDiffusionSafetyChecker,
}

# What diffusers and transformers may raise on a config that is missing or of something else.
CONFIG_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    IndexError,
    ZeroDivisionError,
    NotImplementedError,
)


def plan_pixel_decoder(
    source: Path, layout: PixelDecoderLayout, num_attention_heads: int
) -> tuple[dict[str, PlannedModel], dict[str, Any]]:
    """
    How every model of a pixel decoder is made.

    Args:
        source (`Path`):
            The original's top folder.
        layout (`PixelDecoderLayout`):
            Which of its pixel decoders.
        num_attention_heads (`int`):
            Heads of the detokenizer, which no tensor tells.

    Returns:
        The pipeline's models that are to be written, and its components without weights, by the components' names.

    Raises:
        ConversionError: If a file is missing or damaged, or does not fit its model.
    """
    folder = source / layout.folder
    models = {"detokenizer": _plan_detokenizer(source, layout, num_attention_heads)}
    models |= {name: _plan_model(source, layout, name) for name in layout.models}
    others = {"scheduler": _load_scheduler(folder / "scheduler")}
    if layout.feature_extractor:
        others["feature_extractor"] = _load(CLIPImageProcessorPil.from_pretrained, folder / "feature_extractor")
    return models, others


def _plan_detokenizer(source: Path, layout: PixelDecoderLayout, num_attention_heads: int) -> PlannedModel:
    plan = plan_file(layout.detokenizer, read_tensors(source / layout.detokenizer.path))
    if layout.negative_embeds is not None:
        path = source / layout.folder / layout.negative_embeds
        negative_embeds = read_tensor(path)
        if negative_embeds.ndim != 3:
            raise ConversionError(f"{path} must have three axes, got the shape {tuple(negative_embeds.shape)}.")
        plan["negative_embeds"] = LazyTensor(torch.Tensor.detach, negative_embeds)
    config = infer_detokenizer_config({name: make().to("meta") for name, make in plan.items()}, num_attention_heads)
    with torch.device("meta"):
        return PlannedModel(LaVITDetokenizer(config), plan, SAFE_WEIGHTS_NAME)


def _plan_model(source: Path, layout: PixelDecoderLayout, component: str) -> PlannedModel:
    files = layout.model_files(component)
    folder = source / files.path
    model = _load(empty_model, folder, MODEL_CLASSES[component])
    plan = plan_file(files, read_tensors(find_weights(folder, files.names)))
    weights_name = DIFFUSERS_SAFE_WEIGHTS_NAME if isinstance(model, ModelMixin) else SAFE_WEIGHTS_NAME
    return PlannedModel(model, plan, weights_name)


def empty_model(folder: Path, model_class: type) -> ModelMixin | PreTrainedModel:
    """
    A model on the meta device, without weights.

    Args:
        folder (`Path`):
            Where its config is.
        model_class (`type`):
            Its class, of transformers or of diffusers.
    """
    with torch.device("meta"):
        if issubclass(model_class, PreTrainedModel):
            return model_class(model_class.config_class.from_pretrained(folder))
        return model_class.from_config(model_class.load_config(folder))


def _load_scheduler(folder: Path) -> SchedulerMixin:
    # Of any scheduler, since what it reads is its folder's config.
    config = _load(DDIMScheduler.load_config, folder)
    name = config.get("_class_name")
    scheduler_class = getattr(diffusers, str(name), None)
    if not (isinstance(scheduler_class, type) and issubclass(scheduler_class, SchedulerMixin)):
        raise ConversionError(f"{folder} names no scheduler that diffusers has: {name}.")
    return _load(lambda _: scheduler_class.from_config(config), folder)


def _load(load: Callable, folder: Path, *args) -> Any:
    try:
        return load(folder, *args)
    except CONFIG_ERRORS as error:
        reason = str(error).strip().split("\n")[0]
        raise ConversionError(f"{folder} is missing, or its config cannot be read. ({reason})") from error

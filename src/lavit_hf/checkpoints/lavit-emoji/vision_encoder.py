# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Adapter that turns any vision model of transformers into one row of features for each patch."""

import torch
from torch import nn
from transformers import AutoBackbone, AutoModel, Blip2VisionConfig, Blip2VisionModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_lavit import LaVITVisualTokenizerConfig


# The EVA-CLIP encoder's class stands in transformers, but AutoModel does not know it.
AutoModel.register(Blip2VisionConfig, Blip2VisionModel, exist_ok=True)

FINAL_NORM_NAMES = ("post_layernorm", "layernorm", "norm")


def _remove_final_norm(model: PreTrainedModel) -> None:
    for name in FINAL_NORM_NAMES:
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, nn.Identity())
            return
    raise ValueError(
        f"{type(model).__name__} has no final norm named one of {FINAL_NORM_NAMES} to leave out: "
        "set encoder_final_norm=True to take its output as it is."
    )


def _to_grid(feature_map: torch.Tensor, grid_size: int) -> torch.Tensor:
    """Brings a square map to `grid_size`, keeping every value of a finer one and interpolating a coarser one."""
    side = feature_map.shape[-1]
    if side > grid_size and side % grid_size == 0:
        return nn.functional.pixel_unshuffle(feature_map, side // grid_size)
    if side == grid_size:
        return feature_map
    # In fp32: torch has no antialiasing in bf16 on CPU.
    resized = nn.functional.interpolate(
        feature_map.float(), size=(grid_size, grid_size), mode="bilinear", antialias=True
    )
    return resized.to(feature_map.dtype)


class FeatureStandardizer(nn.Module):
    """Brings each channel to mean 0 and variance 1 by stored statistics."""

    def __init__(self, feature_size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("std", torch.ones(feature_size))

    def fit(self, features: torch.Tensor) -> None:
        """Takes the statistics of `features`, of shape `(..., feature_size)`, in place of the stored ones."""
        std, mean = torch.std_mean(features.float().flatten(end_dim=-2), dim=0)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # Loading casts weights, and leaves these in fp32.
        return ((features - self.mean) / self.std).to(features.dtype)


class LaVITVisionEncoder(nn.Module):
    """The visual tokenizer's eyes: a vision transformer's patches, or a backbone's maps of several strides."""

    def __init__(self, config: LaVITVisualTokenizerConfig, model: PreTrainedModel | None = None):
        super().__init__()
        self.config = config
        if model is None:
            auto_class = AutoBackbone if config.encoder_output == "feature_maps" else AutoModel
            # The dtype of the model around it, and not the one its own configuration was saved with.
            model = auto_class.from_config(config.encoder_config, dtype=torch.get_default_dtype())
        if config.encoder_output == "last_hidden_state" and not config.encoder_final_norm:
            _remove_final_norm(model)
        self.model = model
        self.standardizer = FeatureStandardizer(config.feature_size) if config.standardize_features else None

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`):
                Normalised pixels.
            kwargs:
                What the encoder's own forward takes, such as `output_hidden_states`.

        Returns:
            `BaseModelOutput`: `last_hidden_state` holds the features, `(batch_size, num_patches, feature_size)`, in
            raster order; `hidden_states` and `attentions` are the encoder's own.
        """
        outputs = self.model(pixel_values=pixel_values.to(self.model.dtype), return_dict=True, **kwargs)
        if self.config.encoder_output == "last_hidden_state":
            # Class and register tokens stand in front of the patches.
            features = outputs.last_hidden_state[:, -self.config.num_patches :]
        else:
            grid_size = self.config.image_size // self.config.patch_size
            maps = [_to_grid(feature_map, grid_size) for feature_map in outputs.feature_maps]
            features = torch.cat(maps, dim=1).flatten(2).transpose(1, 2)
        if self.standardizer is not None:
            features = self.standardizer(features)
        return BaseModelOutput(features, outputs.hidden_states, outputs.attentions)

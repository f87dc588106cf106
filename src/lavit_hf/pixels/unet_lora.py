# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LoRA for pipelines whose only adapted component is a U-Net."""

import os
from collections.abc import Sequence

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin


class UNetLoraLoaderMixin(StableDiffusionLoraLoaderMixin):
    """Stable Diffusion's LoRA loading without text encoders: weights for these are ignored."""

    _lora_loadable_modules = ["unet"]

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike | dict[str, torch.Tensor],
        adapter_name: str | None = None,
        hotswap: bool = False,
        low_cpu_mem_usage: bool = True,
        **kwargs,
    ) -> None:
        """
        Loads a LoRA into the U-Net.

        Args:
            pretrained_model_name_or_path_or_dict (`str`, `os.PathLike` or `dict`):
                A file, folder, Hub id, or the weights themselves.
            adapter_name (`str`, *optional*):
                Name of the adapter for `set_adapters`. Defaults to `default_{i}`.
            hotswap (`bool`, *optional*, defaults to `False`):
                Whether to replace the weights of an existing adapter with this name.
            low_cpu_mem_usage (`bool`, *optional*, defaults to `True`):
                Whether to skip the initialization of weights that are loaded.
            kwargs:
                Further arguments of `lora_state_dict` of diffusers' mixin, such as `weight_name`.

        Raises:
            ValueError: If the weights are not a LoRA.
        """
        if isinstance(pretrained_model_name_or_path_or_dict, dict):
            pretrained_model_name_or_path_or_dict = dict(pretrained_model_name_or_path_or_dict)
        state_dict, network_alphas, metadata = self.lora_state_dict(
            pretrained_model_name_or_path_or_dict,
            unet_config=self.unet.config,
            return_lora_metadata=True,
            **kwargs,
        )
        if not all("lora" in name for name in state_dict):
            raise ValueError("these weights are not a LoRA: every name must contain 'lora'.")
        self.load_lora_into_unet(
            state_dict,
            network_alphas=network_alphas,
            unet=self.unet,
            adapter_name=adapter_name,
            metadata=metadata,
            _pipeline=self,
            low_cpu_mem_usage=low_cpu_mem_usage,
            hotswap=hotswap,
        )

    def fuse_lora(self, components: Sequence[str] = ("unet",), **kwargs) -> None:
        super().fuse_lora(components=list(components), **kwargs)

    def unfuse_lora(self, components: Sequence[str] = ("unet",), **kwargs) -> None:
        super().unfuse_lora(components=list(components), **kwargs)

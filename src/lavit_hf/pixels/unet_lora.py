# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LoRA for pipelines whose only adapted component is a U-Net."""

import os
from collections.abc import Sequence

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin


class UNetLoraLoaderMixin(StableDiffusionLoraLoaderMixin):
    """Stable Diffusion's LoRA loading without its text encoders: what a file holds for these is passed over."""

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
                A file, folder or Hub id, or the weights.
            adapter_name (`str`, *optional*):
                What the adapter is called in `set_adapters`. `default_{i}` by default.
            hotswap (`bool`, *optional*, defaults to `False`):
                Whether to put the weights into the adapter of that name that is there already.
            low_cpu_mem_usage (`bool`, *optional*, defaults to `True`):
                Whether to skip the initialization of weights that are loaded.
            kwargs:
                What else `lora_state_dict` of diffusers' mixin takes, as `weight_name`.

        Raises:
            ValueError: If the weights are no LoRA.
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

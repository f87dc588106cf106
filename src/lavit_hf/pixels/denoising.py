# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The denoising loop, for U-Nets with the architecture of Stable Diffusion 1.5 or SDXL."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg, retrieve_timesteps
from diffusers.utils import logging

from .concurrent_calls import runs_apart
from .generators import as_list
from .pipeline_inputs import check_count
from .progress import PAINTING, named_progress_bar
from .small.condition_map import build_unet_input


logger = logging.get_logger(__name__)


@dataclass
class LaVITCondition:
    """
    The condition of the images that the U-Net generates, and the negative condition for guidance.

    Args:
        prompt_embeds (`torch.Tensor` of shape `(batch_size, num_patches, cross_attention_dim)`):
            The rows that the U-Net attends to.
        negative_prompt_embeds (`torch.Tensor` of shape `(batch_size, num_patches, cross_attention_dim)`):
            The same for the negative side of guidance.
        negative_attention_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
            The rows of `negative_prompt_embeds` that may be attended to. Defaults to all.
        pooled_prompt_embeds (`torch.Tensor` of shape `(batch_size, pooled_projection_dim)`, *optional*):
            The pooled condition, at high resolution only.
        negative_pooled_prompt_embeds (`torch.Tensor` of shape `(batch_size, pooled_projection_dim)`, *optional*):
            The same for the negative side of guidance. Defaults to zeros.
        features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`, *optional*):
            The rebuilt features that the condition is computed from, used to choose candidates.
    """

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor
    negative_attention_mask: torch.Tensor | None = None
    pooled_prompt_embeds: torch.Tensor | None = None
    negative_pooled_prompt_embeds: torch.Tensor | None = None
    features: torch.Tensor | None = None

    def repeat(self, times: int) -> "LaVITCondition":
        """Repeats the condition of each image, with the copies next to each other."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return LaVITCondition(
            **{
                name: None if tensor is None else tensor.repeat_interleave(times, dim=0)
                for name, tensor in tensors.items()
            }
        )


class DenoisingMixin:
    """
    Adds the denoising loop to a `DiffusionPipeline` with the components `unet` and `scheduler` and the attribute
    `vae_scale_factor`, and the attributes that diffusers' callbacks read and set. Each call resets these attributes.
    """

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def guidance_rescale(self) -> float:
        return self._guidance_rescale

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        return self._cross_attention_kwargs

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    @property
    def _has_pooled_condition(self) -> bool:
        return self.unet.config.addition_embed_type == "text_time"

    @property
    def _callback_tensor_inputs(self) -> list[str]:
        names = ["latents", "prompt_embeds"]
        return [*names, "add_text_embeds", "add_time_ids"] if self._has_pooled_condition else names

    @runs_apart
    @torch.no_grad()
    def denoise(
        self,
        latents: torch.Tensor,
        condition: LaVITCondition,
        num_inference_steps: int = 25,
        guidance_scale: float = 7.0,
        guidance_rescale: float = 0.0,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> torch.Tensor:
        """
        Denoises latents. The scheduler computes in fp32, whatever the U-Net's dtype.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, channels, height / 8, width / 8)`):
                Noise of unit variance.
            condition (`LaVITCondition`):
                The condition of the images to generate.
            num_inference_steps (`int`, *optional*, defaults to 25):
                Number of steps, unless `timesteps` or `sigmas` are given.
            guidance_scale (`float`, *optional*, defaults to 7.0):
                Guidance scale; 1 or less turns guidance off.
            guidance_rescale (`float`, *optional*, defaults to 0.0):
                How far, from 0 to 1, guided noise is rescaled to its standard deviation without guidance
                (arXiv 2305.08891, section 3.4).
            timesteps (`Sequence[int]`, *optional*):
                Timesteps to denoise at, in descending order, for schedulers that support them.
            sigmas (`Sequence[float]`, *optional*):
                Noise levels to denoise at, for schedulers that support them. Those of `EulerDiscreteScheduler` end
                with 0.
            eta (`float`, *optional*, defaults to 0.0):
                How much noise, from 0 to 1, DDIM adds at every step. Schedulers without `eta` ignore it.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for schedulers that add noise at every step.
            cross_attention_kwargs (`dict`, *optional*):
                Passed to the U-Net's attention processors.
            callback_on_step_end (`Callable`, *optional*):
                Called after each step; see [`~LaVITPipeline.__call__`].
            callback_on_step_end_tensor_inputs (`Sequence[str]`, *optional*, defaults to `("latents",)`):
                The tensors it receives.

        Returns:
            `torch.Tensor` of the shape of `latents`.

        Raises:
            ValueError: If the scheduler does not support the steps, `guidance_rescale` or `eta` are not in 0..1, or
                `callback_on_step_end_tensor_inputs` contains an unknown name.
        """
        self._check_denoising(guidance_rescale, eta, callback_on_step_end_tensor_inputs)
        self._guidance_scale = guidance_scale
        self._guidance_rescale = guidance_rescale
        self._cross_attention_kwargs = cross_attention_kwargs
        self._interrupt = False
        timesteps, num_inference_steps = self._set_timesteps(num_inference_steps, timesteps, sigmas, latents.device)
        self._num_timesteps = len(timesteps)
        step_kwargs = self._step_kwargs(generator, eta)
        tensors = self._unet_tensors(latents, condition)
        tensors["latents"] = latents * self.scheduler.init_noise_sigma
        with named_progress_bar(self, PAINTING, num_inference_steps) as progress_bar:
            for step, timestep in enumerate(timesteps, start=1):
                if self.interrupt:
                    break
                noise = self._predict_noise(tensors, timestep)
                tensors["latents"] = self.scheduler.step(noise, timestep, tensors["latents"], **step_kwargs)[0]
                if callback_on_step_end is not None:
                    shown = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    tensors |= callback_on_step_end(self, step - 1, timestep, shown) or {}
                # A higher-order scheduler uses several timesteps per step.
                progress_bar.update(step * num_inference_steps // len(timesteps) - progress_bar.n)
        return tensors["latents"]

    def _unet_tensors(self, latents: torch.Tensor, condition: LaVITCondition) -> dict[str, torch.Tensor | None]:
        """The U-Net's other inputs by diffusers' names, with the negative side first if there is guidance."""
        guided = self.do_classifier_free_guidance
        sides, mask = [condition.prompt_embeds], None
        if guided:
            sides.insert(0, condition.negative_prompt_embeds)
            if condition.negative_attention_mask is not None:
                negative_mask = condition.negative_attention_mask
                mask = torch.cat([negative_mask, torch.ones_like(negative_mask)]).to(latents.device)
        tensors = {"prompt_embeds": torch.cat(sides).to(latents.device, self.unet.dtype), "attention_mask": mask}
        if self._has_pooled_condition:
            sides = [condition.pooled_prompt_embeds]
            if guided:
                negative = condition.negative_pooled_prompt_embeds
                sides.insert(0, torch.zeros_like(sides[0]) if negative is None else negative)
            pooled = torch.cat(sides)  # always a copy, which callbacks may write to
            tensors["add_text_embeds"] = pooled.to(latents.device, self.unet.dtype)
            tensors["add_time_ids"] = self._time_ids(latents).repeat(len(pooled), 1)
        return tensors

    def _time_ids(self, latents: torch.Tensor) -> torch.Tensor:
        """SDXL's original size, crop and target size for an image that was neither scaled nor cropped."""
        size = [side * self.vae_scale_factor for side in latents.shape[-2:]]
        return torch.tensor([[*size, 0, 0, *size]], dtype=self.unet.dtype, device=latents.device)

    def _predict_noise(self, tensors: dict[str, torch.Tensor | None], timestep: torch.Tensor) -> torch.Tensor:
        # Callbacks may turn guidance off during the loop.
        guided = self.do_classifier_free_guidance
        latents = torch.cat([tensors["latents"]] * 2) if guided else tensors["latents"]
        added = None
        if self._has_pooled_condition:
            added = {"text_embeds": tensors["add_text_embeds"], "time_ids": tensors["add_time_ids"]}
        latents = self.scheduler.scale_model_input(latents, timestep).to(self.unet.dtype)
        noise = self.unet(
            build_unet_input(self.unet.config, latents, tensors["prompt_embeds"]),
            timestep,
            encoder_hidden_states=tensors["prompt_embeds"],
            encoder_attention_mask=tensors["attention_mask"] if guided else None,
            added_cond_kwargs=added,
            cross_attention_kwargs=self.cross_attention_kwargs,
            return_dict=False,
        )[0].float()
        if not guided:
            return noise
        negative, positive = noise.chunk(2)
        noise = negative + self.guidance_scale * (positive - negative)
        return rescale_noise_cfg(noise, positive, self.guidance_rescale) if self.guidance_rescale > 0 else noise

    def _set_timesteps(
        self,
        num_inference_steps: int,
        timesteps: Sequence[int] | None,
        sigmas: Sequence[float] | None,
        device: torch.device | None = None,
    ) -> tuple[torch.Tensor, int]:
        """Sets the scheduler's steps. Returns the timesteps and the number of steps."""
        if timesteps is None and sigmas is None:
            check_count("num_inference_steps", num_inference_steps)
        for name, values in {"timesteps": timesteps, "sigmas": sigmas}.items():
            if values is not None and len(values) == 0:
                raise ValueError(f"{name} is empty. Pass at least one step, or leave it out.")
        steps = retrieve_timesteps(self.scheduler, num_inference_steps, device, timesteps, sigmas)
        if len(steps[0]) == 0:
            raise ValueError("this scheduler steps from each sigma to the next. Pass at least two sigmas.")
        return steps

    def _step_kwargs(self, generator: torch.Generator | list[torch.Generator] | None, eta: float) -> dict[str, Any]:
        known = inspect.signature(self.scheduler.step).parameters
        if eta > 0 and "eta" not in known:
            logger.warning(
                f"eta={eta} is ignored: {type(self.scheduler).__name__} has no eta, but DDIMScheduler does."
            )
        wanted = {"eta": eta, "generator": as_list(generator), "return_dict": False}
        return {name: value for name, value in wanted.items() if name in known}

    def _check_denoising(self, guidance_rescale: float, eta: float, callback_tensor_names: Sequence[str]) -> None:
        for name, value in {"guidance_rescale": guidance_rescale, "eta": eta}.items():
            if not isinstance(value, Real) or not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {value!r}.")
        unknown = [name for name in callback_tensor_names if name not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs contains {', '.join(unknown)}. Choose from "
                f"{', '.join(self._callback_tensor_inputs)}."
            )


__all__ = ["DenoisingMixin", "LaVITCondition"]

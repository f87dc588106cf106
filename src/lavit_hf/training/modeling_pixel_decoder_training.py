# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The pixel decoder with its loss: a U-Net learns to generate images from features rebuilt by the detokenizer."""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.schedulers import SchedulerMixin
from diffusers.training_utils import compute_snr
from torch import nn
from transformers.utils import ModelOutput

from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from ..pixels.denoising import LaVITCondition
from ..pixels.modeling_detokenizer import LaVITDetokenizer
from ..pixels.picture_sizes import latent_size_ratio
from ..pixels.small.condition_map import build_unet_input, check_channels
from ..pixels.small.patch_autoencoder import PatchAutoencoder


CODE_PADDING = -1
PREDICTION_TYPES = ("epsilon", "v_prediction")
CONDITIONS = ("codes", "features")
# Frozen parts, which have their own checkpoints.
NOT_SAVED = ("vae.", "visual_tokenizer.")


@dataclass
class LaVITPixelDecoderTrainingOutput(ModelOutput):
    r"""
    Output of [`LaVITPixelDecoderForTraining`].

    Args:
        loss (`torch.FloatTensor`):
            The denoising loss, weighted by `min_snr_gamma`.
        denoising_loss (`torch.FloatTensor`):
            Unweighted mean squared error of the prediction.
    """

    loss: torch.FloatTensor | None = None
    denoising_loss: torch.FloatTensor | None = None


class LaVITPixelDecoderForTraining(nn.Module):
    r"""
    Trains a diffusion U-Net to generate images from the features that the detokenizer rebuilds (arXiv 2309.04669,
    section 3.1), together with the detokenizer's condition: its projections, their positions and its pooling.
    Everything else is frozen and in evaluation mode. The autoencoder and the visual tokenizer are not saved in
    checkpoints.

    A dropped condition is replaced by [`~LaVITDetokenizer.negative_condition`], which [`LaVITPipeline`] uses for
    guidance.

    Args:
        unet (`UNet2DConditionModel`):
            The U-Net, with the architecture of Stable Diffusion 1.5 or SDXL. If it has `cross_attention_dim` more
            input than output channels, it also receives the condition as a map, with each patch's row at its place.
        detokenizer (`LaVITDetokenizer`):
            The trained detokenizer, with its codebook set if `condition` is `"codes"`.
        vae (`AutoencoderKL` or [`PatchAutoencoder`]):
            The trained autoencoder.
        scheduler (`SchedulerMixin`):
            The noise schedule, with the prediction type `"epsilon"` or `"v_prediction"`.
        visual_tokenizer (`LaVITVisualTokenizer`, *optional*):
            Encodes images, and computes codes for images and features without codes.
        condition (`str`, *optional*, defaults to `"codes"`):
            Condition of the U-Net: `"codes"` (the features rebuilt from codes), or `"features"` as given, which are
            either already rebuilt from codes, or the encoder's own to measure what the U-Net can achieve.
        condition_dropout (`float`, *optional*, defaults to 0.1):
            Share of images whose condition is dropped in training, for guidance (arXiv 2207.12598).
        min_snr_gamma (`float`, *optional*):
            Limits the weight of timesteps with little noise (arXiv 2303.09556). By default, all timesteps have the
            same weight.

    Raises:
        ValueError: If `condition`, `condition_dropout` or the prediction type is not supported, if the schedule's
            `rescale_betas_zero_snr` contradicts the prediction type or `min_snr_gamma`, or if the U-Net, the
            detokenizer and the autoencoder do not fit together.

    Example:

    ```python
    >>> model = LaVITPixelDecoderForTraining(unet, detokenizer, vae, scheduler)
    >>> model(pixel_values=pictures, codes=codes).loss.backward()
    ```
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        detokenizer: LaVITDetokenizer,
        vae: AutoencoderKL | PatchAutoencoder,
        scheduler: SchedulerMixin,
        visual_tokenizer: LaVITVisualTokenizer | None = None,
        condition: str = "codes",
        condition_dropout: float = 0.1,
        min_snr_gamma: float | None = None,
    ):
        super().__init__()
        self.unet = unet
        self.detokenizer = detokenizer
        self.vae = vae
        self.scheduler = scheduler
        self.visual_tokenizer = visual_tokenizer
        self.condition = condition
        self.condition_dropout = condition_dropout
        self.min_snr_gamma = min_snr_gamma
        self._check_settings()
        self._check_parts()
        self._freeze()
        self.register_state_dict_post_hook(_prepare_state_dict)
        self.register_load_state_dict_post_hook(_excuse_frozen_parts)

    @property
    def has_pooled_condition(self) -> bool:
        """Whether the U-Net has SDXL's architecture."""
        return self.unet.config.addition_embed_type == "text_time"

    @property
    def vae_scale_factor(self) -> int:
        """Number of pixels per latent along each side."""
        return latent_size_ratio(self.vae)

    @property
    def picture_size(self) -> int:
        """Side of the images in pixels."""
        return self.unet.config.sample_size * self.vae_scale_factor

    def train(self, mode: bool = True) -> "LaVITPixelDecoderForTraining":
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None) -> None:
        """Enables the U-Net's gradient checkpointing. Called by the trainer."""
        self.unet.enable_gradient_checkpointing()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        latents: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        images: torch.Tensor | None = None,
    ) -> LaVITPixelDecoderTrainingOutput:
        r"""
        Computes the denoising loss.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, picture_size, picture_size)`, *optional*):
                The target images, with values in -1..1.
            latents (`torch.Tensor` of shape `(batch_size, latent_channels, sample_size, sample_size)`, *optional*):
                Their precomputed latents from [`~LaVITPixelDecoderForTraining.encode_pictures`], instead of
                `pixel_values`.
            codes, features, images (`torch.Tensor`, *optional*):
                The condition, as for [`~LaVITPixelDecoderForTraining.encode_condition`].

        Returns:
            [`LaVITPixelDecoderTrainingOutput`]. Evaluation is deterministic: the noise is fixed, the timesteps are
            spread evenly over the batch, and no condition is dropped.

        Raises:
            ValueError: If both or neither of `pixel_values` and `latents` are given, or there is no condition.
        """
        if (pixel_values is None) == (latents is None):
            raise ValueError("pass either pixel_values or latents, not both.")
        latents = self.encode_pictures(pixel_values) if latents is None else latents
        condition = self.encode_condition(codes, features, images)
        noise, timesteps = self._draw_noise(latents)
        unet_condition = self._unet_condition(condition, latents)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        unet_input = build_unet_input(self.unet.config, noisy, unet_condition["encoder_hidden_states"])
        prediction = self.unet(unet_input, timesteps, **unet_condition, return_dict=False)[0]
        errors = (prediction.float() - self._target(latents, noise, timesteps)).square().flatten(start_dim=1).mean(1)
        return LaVITPixelDecoderTrainingOutput(
            loss=(self._weights(timesteps) * errors).mean(), denoising_loss=errors.mean()
        )

    @torch.no_grad()
    def encode_pictures(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Encodes images into the latents that the U-Net generates.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Images with values in -1..1.

        Returns:
            `torch.Tensor` of shape `(batch_size, latent_channels, height / factor, width / factor)`, in fp32.
        """
        return self.vae.encode(pixel_values).latent_dist.mode().float() * self.vae.config.scaling_factor

    def encode_condition(
        self,
        codes: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        images: torch.Tensor | None = None,
    ) -> LaVITCondition:
        r"""
        Computes the U-Net's condition from codes, features or images.

        Args:
            codes (`torch.LongTensor` of shape `(batch_size, num_patches)`, *optional*):
                Codes of the images, padded with -1.
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`, *optional*):
                The encoder's features of the images.
            images (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`, *optional*):
                Images prepared by the visual tokenizer's image processor.

        Returns:
            [`LaVITCondition`].

        Raises:
            ValueError: If none is given, codes are given but `condition` is `"features"`, a visual tokenizer is needed
                but missing, or codes are not in the codebook.
        """
        features = self._find_features(codes, features, images)
        prompt_embeds = self.detokenizer.project_condition(features)
        negative_embeds, negative_mask = self.detokenizer.negative_condition(prompt_embeds)
        pooled = self.detokenizer.pooler(features) if self.has_pooled_condition else None
        return LaVITCondition(prompt_embeds, negative_embeds, negative_mask, pooled)

    @torch.no_grad()
    def _find_features(
        self, codes: torch.Tensor | None, features: torch.Tensor | None, images: torch.Tensor | None
    ) -> torch.Tensor:
        if codes is not None:
            if self.condition == "features":
                raise ValueError("the U-Net is conditioned on features as they are. Pass features, not codes.")
            return self.detokenizer(codes=[row[row != CODE_PADDING] for row in codes]).features
        if features is None and images is None:
            raise ValueError("there is nothing to condition on. Pass codes, features or images.")
        if features is None:
            features = self._reader("images").encode(images).last_hidden_state
        if self.condition == "features":
            return features
        return self.detokenizer(codes=self._reader("features").tokenize(features).codes).features

    def _reader(self, read: str) -> LaVITVisualTokenizer:
        if self.visual_tokenizer is None:
            raise ValueError(f"{read} must be read by a visual tokenizer. Pass one, or codes.")
        return self.visual_tokenizer

    def _draw_noise(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch_size, num_timesteps = len(latents), self.scheduler.config.num_train_timesteps
        if self.training:
            timesteps = torch.randint(num_timesteps, (batch_size,), device=latents.device)
            return torch.randn_like(latents), timesteps
        generator = torch.Generator(latents.device).manual_seed(0)
        noise = torch.randn(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
        return noise, torch.linspace(0, num_timesteps - 1, batch_size, device=latents.device).long()

    def _unet_condition(self, condition: LaVITCondition, latents: torch.Tensor) -> dict:
        """Returns the condition as the pipeline passes it to the U-Net, dropped for some images in training."""
        is_dropped = latents.new_zeros(len(latents), dtype=torch.bool)
        if self.training:
            is_dropped = torch.rand(len(latents), device=latents.device) < self.condition_dropout
        kwargs = {
            "encoder_hidden_states": torch.where(
                is_dropped[:, None, None], condition.negative_prompt_embeds, condition.prompt_embeds
            )
        }
        if condition.negative_attention_mask is not None:
            kwargs["encoder_attention_mask"] = ~is_dropped[:, None] | condition.negative_attention_mask
        if self.has_pooled_condition:
            size = [side * self.vae_scale_factor for side in latents.shape[-2:]]
            kwargs["added_cond_kwargs"] = {
                "text_embeds": condition.pooled_prompt_embeds * ~is_dropped[:, None],
                "time_ids": latents.new_tensor([[*size, 0, 0, *size]]).expand(len(latents), -1),
            }
        return kwargs

    def _target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        if self.scheduler.config.prediction_type == "epsilon":
            return noise
        return self.scheduler.get_velocity(latents, noise, timesteps)

    def _weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        if self.min_snr_gamma is None:
            return torch.ones_like(timesteps, dtype=torch.float32)
        snr = compute_snr(self.scheduler, timesteps)
        is_epsilon = self.scheduler.config.prediction_type == "epsilon"
        return snr.clamp(max=self.min_snr_gamma) / (snr if is_epsilon else snr + 1)

    def _frozen_parts(self) -> list[nn.Module]:
        return [part for part in (self.detokenizer, self.vae, self.visual_tokenizer) if part is not None]

    def _freeze(self) -> None:
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.detokenizer.condition_projections.requires_grad_(True)
        if self.detokenizer.condition_position is not None:
            self.detokenizer.condition_position.requires_grad_(True)
        if self.has_pooled_condition:
            self.detokenizer.pooler.requires_grad_(True)

    def _check_settings(self) -> None:
        schedule = self.scheduler.config
        if self.condition not in CONDITIONS:
            raise ValueError(f"condition must be one of {', '.join(CONDITIONS)}, got {self.condition!r}.")
        if not 0 <= self.condition_dropout <= 1:
            raise ValueError(f"condition_dropout must lie in [0, 1], got {self.condition_dropout}.")
        if schedule.prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"prediction_type must be one of {', '.join(PREDICTION_TYPES)}, got {schedule.prediction_type!r}."
            )
        if not schedule.get("rescale_betas_zero_snr"):
            return
        if schedule.prediction_type == "epsilon":
            raise ValueError("rescale_betas_zero_snr ends in pure noise, which needs prediction_type='v_prediction'.")
        if self.min_snr_gamma is not None:
            raise ValueError(
                "min_snr_gamma gives no weight to the last step of rescale_betas_zero_snr. Set only one of them."
            )

    def _check_parts(self) -> None:
        width, wanted = sum(self.detokenizer.config.cross_attention_dims), self.unet.config.cross_attention_dim
        if width != wanted:
            raise ValueError(
                f"the U-Net attends to rows of width {wanted}, but the detokenizer's cross_attention_dims add up to "
                f"{width}."
            )
        check_channels(self.unet.config, self.vae.config.latent_channels, self.detokenizer.config.num_patches)
        if self.has_pooled_condition and self.detokenizer.pooler is None:
            raise ValueError("an SDXL U-Net needs a detokenizer with pooled_projection_dim.")


def _prepare_state_dict(module: nn.Module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    frozen = tuple(f"{prefix}{part}" for part in NOT_SAVED)
    for name in [name for name in state_dict if name.startswith(frozen)]:
        del state_dict[name]
    for name, tensor in state_dict.items():
        state_dict[name] = tensor.contiguous()  # safetensors does not support channels_last


def _excuse_frozen_parts(module: nn.Module, incompatible_keys) -> None:
    missing = incompatible_keys.missing_keys
    missing[:] = [name for name in missing if not name.startswith(NOT_SAVED)]


__all__ = ["LaVITPixelDecoderForTraining", "LaVITPixelDecoderTrainingOutput"]

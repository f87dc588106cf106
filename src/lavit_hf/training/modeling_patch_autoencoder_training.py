# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The autoencoder of small images with the loss that trains its decoder."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.utils import ModelOutput

from ..pixels.small.patch_autoencoder import PatchAutoencoder


@dataclass
class PatchAutoencoderTrainingOutput(ModelOutput):
    r"""
    Output of [`PatchAutoencoderForTraining`].

    Args:
        loss (`torch.FloatTensor`):
            Mean absolute error of the decoded images.
        components_loss (`torch.FloatTensor`):
            The same of the images that the components alone make, for comparison.
    """

    loss: torch.FloatTensor | None = None
    components_loss: torch.FloatTensor | None = None


class PatchAutoencoderForTraining(nn.Module):
    r"""
    Trains the decoder of a [`PatchAutoencoder`] to make images of noisy latents, as those that a U-Net paints are.

    Args:
        vae ([`PatchAutoencoder`]):
            The autoencoder, with its components fitted and a decoder.
        largest_noise (`float`, *optional*, defaults to 0.5):
            Each image's latents, whose mean square is 1, get noise of a standard deviation between 0 and this.

    Raises:
        ValueError: If the autoencoder has no decoder.

    Example:

    ```python
    >>> model = PatchAutoencoderForTraining(vae)
    >>> model(pixel_values=pictures).loss.backward()
    ```
    """

    def __init__(self, vae: PatchAutoencoder, largest_noise: float = 0.5):
        super().__init__()
        if vae.decoder is None:
            raise ValueError("the autoencoder has no decoder to train. Set its decoder_channels.")
        self.vae = vae
        self.largest_noise = largest_noise

    def forward(self, pixel_values: torch.Tensor) -> PatchAutoencoderTrainingOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Images with values in -1..1.

        Returns:
            [`PatchAutoencoderTrainingOutput`]. In evaluation nothing is drawn: the noise is always the same, and grows
            evenly over the batch.
        """
        noisy = self.add_noise(self.vae.encode(pixel_values).latent_dist.mode())
        rebuilt, components_alone = self.vae.decode(noisy).sample, self.vae.decode_components(noisy)
        return PatchAutoencoderTrainingOutput(
            loss=nn.functional.l1_loss(rebuilt.float(), pixel_values),
            components_loss=nn.functional.l1_loss(components_alone, pixel_values),
        )

    def add_noise(self, latents: torch.Tensor) -> torch.Tensor:
        """
        Adds noise of another strength to each image's latents.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, latent_channels, height, width)`):
                Latents, not scaled.

        Returns:
            `torch.Tensor` of the same shape.
        """
        if self.training:
            noise = torch.randn_like(latents)
            strength = torch.rand(len(latents), device=latents.device)
        else:
            generator = torch.Generator(latents.device).manual_seed(0)
            noise = torch.randn(latents.shape, generator=generator, device=latents.device)
            strength = torch.linspace(0, 1, len(latents), device=latents.device)
        strength = self.largest_noise * strength / self.vae.config.scaling_factor
        return latents + strength[:, None, None, None] * noise


__all__ = ["PatchAutoencoderForTraining", "PatchAutoencoderTrainingOutput"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""An autoencoder for small images: principal components of patches, and an optional decoder that smooths them."""

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, IdentityDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from ...lavit.atomic_saving import LoadsWholeRepos, saves_atomically
from .patch_decoder import PatchDecoder


class PatchAutoencoder(LoadsWholeRepos, ModelMixin, AutoencoderMixin, ConfigMixin):
    r"""
    Replaces `AutoencoderKL` for small images: a latent contains the first principal components of a patch, so that
    diffusion runs on a coarser grid while distances between latents remain those between pixels. This needs no
    training. An optional decoder is trained ([`PatchAutoencoderForTraining`]) to remove seams between patches and the
    noise of generated latents.

    Args:
        patch_size (`int`, *optional*, defaults to 4):
            Side of a patch in pixels.
        in_channels (`int`, *optional*, defaults to 3):
            Channels of an image.
        latent_channels (`int`, *optional*, defaults to 16):
            Number of components to keep.
        scaling_factor (`float`, *optional*, defaults to 1.0):
            Factor that latents are multiplied by before diffusion.
        decoder_channels (`Sequence[int]`, *optional*, defaults to `()`):
            Channels of the decoder's levels, coarsest first; each level doubles the side. Without levels, there is no
            decoder.
        norm_num_groups (`int`, *optional*, defaults to 8):
            Number of groups of the decoder's normalization.

    Raises:
        ValueError: If there are more components than values in a patch, or the decoder's levels do not match
            `patch_size`.

    Example:

    ```python
    >>> from lavit_hf import PatchAutoencoder

    >>> vae = PatchAutoencoder.fit(pictures, latent_channels=16)
    >>> vae.decode(vae.encode(pictures).latent_dist.mode()).sample.shape
    torch.Size([8, 3, 64, 64])
    ```
    """

    save_pretrained = saves_atomically(ModelMixin.save_pretrained)

    @register_to_config
    def __init__(
        self,
        patch_size: int = 4,
        in_channels: int = 3,
        latent_channels: int = 16,
        scaling_factor: float = 1.0,
        decoder_channels: Sequence[int] = (),
        norm_num_groups: int = 8,
    ):
        super().__init__()
        size = in_channels * patch_size**2
        if not 1 <= latent_channels <= size:
            raise ValueError(f"latent_channels must lie between 1 and the {size} values of a patch.")
        self.mean = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.components = nn.Parameter(torch.eye(size)[:, :latent_channels].clone(), requires_grad=False)
        if decoder_channels and 2 ** len(decoder_channels) != patch_size:
            raise ValueError(
                f"{len(decoder_channels)} decoder levels turn a latent into {2 ** len(decoder_channels)} pixels, but "
                f"a patch has {patch_size}. Change decoder_channels."
            )
        self.decoder = None
        if decoder_channels:
            self.decoder = PatchDecoder(latent_channels, in_channels, decoder_channels, norm_num_groups)

    @classmethod
    @torch.no_grad()
    def fit(
        cls, pictures: torch.Tensor, patch_size: int = 4, latent_channels: int = 16, **kwargs
    ) -> "PatchAutoencoder":
        """
        Computes the components from images.

        Args:
            pictures (`torch.Tensor` of shape `(number, in_channels, height, width)`):
                Images with values in -1..1.
            patch_size, latent_channels (`int`, *optional*):
                See [`PatchAutoencoder`].
            kwargs:
                Further arguments of [`PatchAutoencoder`], for its decoder, which this method does not train.

        Returns:
            [`PatchAutoencoder`], with a scaling factor that gives latents a mean square of 1.
        """
        patches = _unfold(pictures.float(), patch_size).transpose(0, 1).flatten(1)
        mean = patches.mean(dim=1)
        _, vectors = torch.linalg.eigh(torch.cov(patches))
        components = vectors.flip(-1)[:, :latent_channels]  # largest first
        spread = (components.T @ (patches - mean[:, None])).square().mean().sqrt().item()
        vae = cls(patch_size, pictures.shape[1], latent_channels, scaling_factor=1 / spread, **kwargs)
        vae.mean.copy_(mean)
        vae.components.copy_(components)
        return vae

    @property
    def spatial_compression_ratio(self) -> int:
        """Number of pixels per latent along each side."""
        return self.config.patch_size

    @apply_forward_hook  # offloading is hooked to `forward` alone
    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """
        Encodes images into latents.

        Args:
            x (`torch.Tensor` of shape `(batch_size, in_channels, height, width)`):
                Images with values in -1..1, and sides that are multiples of `patch_size`.

        Returns:
            `AutoencoderKLOutput`: `latent_dist` has a single value of shape `(batch_size, latent_channels,
            height / patch_size, width / patch_size)`.
        """
        centered = _unfold(x, self.config.patch_size) - self.mean[:, None, None]
        latents = IdentityDistribution(torch.einsum("bdhw,dc->bchw", centered, self.components))
        return AutoencoderKLOutput(latent_dist=latents) if return_dict else (latents,)

    @apply_forward_hook
    def decode(self, z: torch.Tensor, return_dict: bool = True, generator=None) -> DecoderOutput | tuple:
        """
        Decodes latents into images.

        Args:
            z (`torch.Tensor` of shape `(batch_size, latent_channels, height, width)`):
                Unscaled latents.

        Returns:
            `DecoderOutput`: `sample` contains the images.
        """
        sample = self.decode_components(z)
        if self.decoder is not None:
            sample = sample + self.decoder(z * self.config.scaling_factor)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def decode_components(self, z: torch.Tensor) -> torch.Tensor:
        """
        Decodes latents without the decoder: each patch is the sum of its components.

        Args:
            z (`torch.Tensor` of shape `(batch_size, latent_channels, height, width)`):
                Unscaled latents.

        Returns:
            `torch.Tensor`: the images.
        """
        patches = torch.einsum("bchw,dc->bdhw", z, self.components) + self.mean[:, None, None]
        return nn.functional.pixel_shuffle(patches, self.config.patch_size)


def _unfold(pictures: torch.Tensor, patch_size: int) -> torch.Tensor:
    return nn.functional.pixel_unshuffle(pictures, patch_size)


__all__ = ["PatchAutoencoder"]

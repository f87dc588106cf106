# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The autoencoder of patches' principal components."""

import pytest
import torch

from lavit_hf import PatchAutoencoder


@pytest.fixture
def pictures():
    """Smooth pictures, which few components describe."""
    coarse = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")


def test_all_components_keep_everything(pictures):
    vae = PatchAutoencoder.fit(pictures, patch_size=4, latent_channels=48)
    latents = vae.encode(pictures).latent_dist.mode()
    assert latents.shape == (8, 48, 4, 4)
    assert torch.allclose(vae.decode(latents).sample, pictures, atol=1e-5)


def test_first_components_keep_most(pictures):
    errors = []
    for latent_channels in (1, 4, 16):
        vae = PatchAutoencoder.fit(pictures, latent_channels=latent_channels)
        rebuilt = vae.decode(vae.encode(pictures).latent_dist.sample()).sample
        errors.append((rebuilt - pictures).square().mean().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05 * pictures.var()


def test_scaled_latents_have_a_mean_square_of_one(pictures):
    vae = PatchAutoencoder.fit(pictures)
    latents = vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
    assert latents.square().mean().item() == pytest.approx(1, rel=1e-3)


def test_saves_and_loads(pictures, tmp_path):
    vae = PatchAutoencoder.fit(pictures)
    vae.save_pretrained(tmp_path)
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert loaded.spatial_compression_ratio == 4
    assert torch.equal(vae.encode(pictures).latent_dist.mode(), loaded.encode(pictures).latent_dist.mode())


def test_refuses_more_components_than_there_are():
    with pytest.raises(ValueError, match="latent_channels must lie between 1 and the 48 values"):
        PatchAutoencoder(latent_channels=49)

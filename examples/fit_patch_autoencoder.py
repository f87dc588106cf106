# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Fits the autoencoder for small images, whose latents the pixel decoder generates. Takes seconds.

    python examples/fit_patch_autoencoder.py examples/runs/toy_autoencoder.yaml
"""

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from diffusers.image_processor import VaeImageProcessor

from lavit_hf import PatchAutoencoder
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split, skip_broken_images
from lavit_hf.training.pixel_data import read_pixels
from lavit_hf.training.settings import load_settings


@dataclass
class AutoencoderSettings:
    """Settings of the autoencoder and its data."""

    dataset: str = field(metadata={"help": "Dataset of images."})
    output: str = field(metadata={"help": "Folder for the autoencoder, saved to `vae` in it."})
    size: int = field(default=64, metadata={"help": "Image size in pixels."})
    patch_size: int = field(default=8, metadata={"help": "Patch size in pixels."})
    latent_channels: int = field(default=32, metadata={"help": "Number of components kept per patch."})
    decoder_channels: list[int] = field(
        default_factory=list, metadata={"help": "Channels of the decoder to train later, coarsest first."}
    )
    train_split: str = "train"
    image_column: str = "image"
    num_pictures: int = field(default=2048, metadata={"help": "Number of images to fit it to."})
    seed: int = 0


def main() -> None:
    """Fit the autoencoder, and print how much of the variance it keeps."""
    (settings,) = load_settings(AutoencoderSettings)
    pictures = skip_broken_images(load_split(settings.dataset, settings.train_split), settings.image_column)
    rows = list(islice(pictures.shuffle(seed=settings.seed), settings.num_pictures))
    pixels = read_pixels(rows, settings.image_column, VaeImageProcessor(vae_scale_factor=1), settings.size)
    vae = PatchAutoencoder.fit(
        pixels, settings.patch_size, settings.latent_channels, decoder_channels=tuple(settings.decoder_channels)
    )
    lost = (vae.decode_components(vae.encode(pixels).latent_dist.mode()) - pixels).var() / pixels.var()
    vae.save_pretrained(Path(settings.output) / "vae")
    print(
        f"{settings.latent_channels} of {vae.mean.numel()} components keep {1 - lost:.1%} of the variance of "
        f"{len(rows)} images"
    )


if __name__ == "__main__":
    run_script(main)

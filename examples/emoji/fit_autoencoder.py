# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Fits the autoencoder of the small generated images: principal components of their patches.

    python examples/emoji/fit_autoencoder.py --data .cache/emoji/set --output .cache/emoji/autoencoder
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from datasets import Dataset, load_from_disk
from diffusers.image_processor import VaeImageProcessor

from lavit_hf import PatchAutoencoder


def load_pictures(drawings: Dataset, size: int) -> torch.Tensor:
    """Images with values from -1 to 1, `(number, 3, size, size)`."""
    return VaeImageProcessor(vae_scale_factor=1).preprocess(list(drawings["image"]), size, size)


def main(
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the autoencoder, saved to `vae` in it.")],
    size: Annotated[int, typer.Option(help="Image size in pixels.")] = 64,
    patch_size: Annotated[int, typer.Option(help="Patch size in pixels.")] = 8,
    latent_channels: Annotated[int, typer.Option(help="Number of components kept per patch.")] = 32,
    decoder_channels: Annotated[
        tuple[int, int, int], typer.Option(help="Channels of the decoder to train later, coarsest first.")
    ] = (96, 64, 32),
    sample: Annotated[int, typer.Option(help="Number of drawings to fit it to.")] = 2048,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Fit the autoencoder, and print how well it reconstructs held-out drawings."""
    drawings = load_from_disk(data)
    vae = PatchAutoencoder.fit(
        load_pictures(drawings["train"].shuffle(seed=seed).take(sample), size),
        patch_size,
        latent_channels,
        decoder_channels=decoder_channels,
    )
    held_out = load_pictures(drawings["validation"], size)
    rebuilt = vae.decode(vae.encode(held_out).latent_dist.mode()).sample
    psnr = -10 * torch.log10(((rebuilt - held_out) / 2).square().mean())
    vae.save_pretrained(output / "vae")
    print(f"{latent_channels} of {vae.mean.numel()} components reconstruct held-out drawings at {psnr:.1f} dB")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Tokenizes images and reconstructs them from their tokens.

    python examples/reconstruct.py
    python examples/reconstruct.py cat.jpg --model lavit-7b
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from lavit_hf import LaVITPipeline, bundled_checkpoint
from lavit_hf.visualization import image_grid, save_image


EMOJI = sorted((Path(__file__).parent / "images" / "emoji").glob("*.png"))


def main(
    images: Annotated[list[Path], typer.Argument(help="Images.", show_default="the example drawings")] = EMOJI,
    output: Annotated[Path, typer.Option(help="File for the contact sheet.")] = Path("reconstructed.png"),
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; the checkpoint's by default.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="PyTorch device to run on.")] = "cpu",
) -> None:
    """Save a contact sheet with the images in the first row and their reconstructions in the second."""
    pipeline = LaVITPipeline.from_pretrained(model).to(device)
    originals = [Image.open(image).convert("RGB") for image in images]
    generator = torch.Generator().manual_seed(seed)
    rebuilt = pipeline.reconstruct(originals, generator=generator, guidance_scale=guidance)
    numbers = [f"{len(ids) - 2} tokens" for ids in rebuilt.image_token_ids]  # without the image markers
    shown = [*(image.resize(rebuilt.images[0].size) for image in originals), *rebuilt.images]
    titles = [*(image.stem for image in images), *numbers]
    save_image(image_grid(shown, columns=len(images), titles=titles), output)
    print(f"Saved {output}")


if __name__ == "__main__":
    typer.run(main)

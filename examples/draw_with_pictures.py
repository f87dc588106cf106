# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Generates an image from text and images; `<image>` marks the position of each image.

    python examples/draw_with_pictures.py "<image> red apple" examples/images/emoji/tiger.png
    python examples/draw_with_pictures.py "<image> in the style of <image>" cat.jpg starry_night.jpg --model lavit-7b
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from lavit_hf import LaVITPipeline, bundled_checkpoint
from lavit_hf.visualization import image_grid, save_image


TIGER = [Path(__file__).parent / "images" / "emoji" / "tiger.png"]


def main(
    prompt: Annotated[str, typer.Argument(help="Text with an <image> marker for each image.")] = "<image> red apple",
    images: Annotated[list[Path], typer.Argument(help="Images.", show_default="tiger.png")] = TIGER,
    output: Annotated[Path, typer.Option(help="File for the contact sheet.")] = Path("mixed.png"),
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; the checkpoint's by default.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="PyTorch device to run on.")] = "cpu",
) -> None:
    """Generate an image from text and images, and save it next to these images."""
    pipeline = LaVITPipeline.from_pretrained(model).to(device)
    generator = torch.Generator().manual_seed(seed)
    sources = [str(image) for image in images]
    (picture,) = pipeline(prompt, images=[sources], generator=generator, guidance_scale=guidance).images
    shown = [*(Image.open(image).convert("RGB").resize(picture.size) for image in images), picture]
    save_image(image_grid(shown, columns=len(shown)), output)
    print(f"Saved {output}")


if __name__ == "__main__":
    typer.run(main)

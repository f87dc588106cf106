# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Generates images from texts.

    python examples/draw.py "red apple" "blue heart"
    python examples/draw.py "a sculpture of a duck made of wool" --model lavit-7b
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

from lavit_hf import LaVITPipeline, bundled_checkpoint
from lavit_hf.visualization import image_grid, save_image


PROMPTS = ["red apple", "blue heart", "rocket"]


def main(
    prompts: Annotated[list[str], typer.Argument(help="Texts to generate images from.")] = PROMPTS,
    output: Annotated[Path, typer.Option(help="File for the contact sheet.")] = Path("drawn.png"),
    guidance: Annotated[float | None, typer.Option(help="Guidance scale; the checkpoint's by default.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="PyTorch device to run on.")] = "cpu",
) -> None:
    """Generate an image from each text."""
    pipeline = LaVITPipeline.from_pretrained(model).to(device)
    # With one generator per image, each image only depends on its own text and the seed.
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    pictures = pipeline(prompts, generator=generators, guidance_scale=guidance).images
    save_image(image_grid(pictures, columns=len(pictures), titles=prompts), output)
    print(f"Saved {output}")


if __name__ == "__main__":
    typer.run(main)

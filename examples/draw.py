# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Paints pictures of texts.

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
    prompts: Annotated[list[str], typer.Argument(help="Texts.")] = PROMPTS,
    output: Annotated[Path, typer.Option(help="The contact sheet to save.")] = Path("drawn.png"),
    guidance: Annotated[float | None, typer.Option(help="By default the checkpoint's own.")] = None,
    seed: Annotated[int, typer.Option(help="Source of all draws.")] = 0,
    model: Annotated[str, typer.Option(help="Path or Hub id.", show_default="lavit-emoji")] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="Where to run, as torch names it.")] = "cpu",
) -> None:
    """Paint a picture of each text."""
    pipeline = LaVITPipeline.from_pretrained(model).to(device)
    # One generator for each picture makes it depend on nothing but its own text and seed.
    generators = [torch.Generator().manual_seed(seed) for _ in prompts]
    pictures = pipeline(prompts, generator=generators, guidance_scale=guidance).images
    save_image(image_grid(pictures, columns=len(pictures), titles=prompts), output)
    print(f"Saved {output}")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit draw`."""

from pathlib import Path
from typing import Annotated

import typer

from ..pixels.picture_sizes import ASPECT_RATIOS
from ..tasks.options import DType, ModelOptions
from ..tasks.requests import request_painting
from ..tasks.sampling import sampling_settings
from .options import (
    AsJson,
    Device,
    DTypeOption,
    Force,
    Guidance,
    Model,
    OutputFile,
    Quantize,
    Seed,
    Steps,
    check_aspect_ratio,
    check_finite,
    check_text,
)


def draw(
    prompt: Annotated[
        str | None,
        typer.Argument(help="What to draw; <image> marks the position of an image.", callback=check_text),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            "-i",
            help="An image for the prompt: a file, a URL or -. Repeat the option for multiple images.",
            show_default=False,
        ),
    ] = None,
    output: OutputFile = Path("lavit.png"),
    force: Force = False,
    num_images: Annotated[int, typer.Option("--num-images", "-n", min=1, help="Number of images to draw.")] = 1,
    candidates: Annotated[
        int | None,
        typer.Option(min=1, help="Draw each image this many times and keep the one that best matches its tokens."),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What the image should not show.", callback=check_text)
    ] = None,
    aspect_ratio: Annotated[
        str | None,
        typer.Option(
            callback=check_aspect_ratio,
            help=f"Ratio of width to height: {', '.join(ASPECT_RATIOS)}.",
            show_default=False,
        ),
    ] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Height in pixels, instead of an aspect ratio.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Width in pixels, instead of an aspect ratio.")] = None,
    steps: Steps = None,
    guidance: Guidance = None,
    token_guidance: Annotated[
        float | None,
        typer.Option(
            min=1.0, callback=check_finite, help="How closely the tokens follow the prompt; 1 turns guidance off."
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            callback=check_finite,
            help="How much the images of a prompt vary; 0 always picks the most likely token.",
        ),
    ] = None,
    model: Model = None,
    device: Device = "auto",
    dtype: DTypeOption = DType.auto,
    quantize: Quantize = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Draw images from text, or from a mix of text and images."""
    if prompt is None and not image:
        raise typer.BadParameter("there is nothing to draw. Pass a text, --image or both.")
    painting = {
        "negative_prompt": negative_prompt,
        "aspect_ratio": aspect_ratio,
        "height": height,
        "width": width,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "llm_guidance_scale": token_guidance,
        "generation_kwargs": sampling_settings(temperature),
        "num_images_per_prompt": num_images,
        "num_candidates": candidates,
    }
    options = ModelOptions(model, device, dtype, quantize)
    request = request_painting(image or [], options, output, force, painting)
    from ..tasks.painting import draw_images

    draw_images(prompt or "", request, painting, seed, as_json)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Shows the tokens of an image: their ids and the kept patches.

    python examples/tokenize_image.py
    python examples/tokenize_image.py cat.jpg --keep-ratio 0.25
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from lavit_hf import LaVITConfig, LaVITImageProcessor, LaVITVisualTokenizer, bundled_checkpoint
from lavit_hf.visualization import draw_keep_mask, save_image


PENGUIN = Path(__file__).parent / "images" / "emoji" / "penguin.png"


@torch.no_grad()
def main(
    image: Annotated[Path, typer.Argument(help="Image.", show_default="penguin.png")] = PENGUIN,
    output: Annotated[Path, typer.Option(help="File for the image with its kept patches.")] = Path("kept.png"),
    keep_ratio: Annotated[
        float | None, typer.Option(help="Share of patches to keep; by default, the selector decides.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="PyTorch device to run on.")] = "cpu",
) -> None:
    """Print the token ids of an image, and save the image with its kept patches."""
    rule = {} if keep_ratio is None else {"selection": "ratio", "keep_ratio": keep_ratio}
    tokenizer = LaVITVisualTokenizer.from_pretrained(model, device_map=device, **rule)
    image_processor = LaVITImageProcessor.from_pretrained(model)

    outputs = tokenizer(**image_processor(str(image), return_tensors="pt").to(device))
    first_code = LaVITConfig.from_pretrained(model).first_code_token_id
    print(f"{len(outputs.codes[0])} of {tokenizer.config.num_patches} patches kept")
    print(*(outputs.codes[0] + first_code).tolist())
    save_image(draw_keep_mask(Image.open(image), outputs.keep_mask[0]), output)


if __name__ == "__main__":
    typer.run(main)

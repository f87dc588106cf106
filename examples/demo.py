# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizes pictures and draws the kept patches over them."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image
from transformers import Blip2VisionConfig

from lavit_hf import LaVITImageProcessorPil, LaVITVisualTokenizer, LaVITVisualTokenizerConfig
from lavit_hf.visualization import draw_keep_mask, image_grid


PICTURES = Path(__file__).parent / "images"


def untrained_tokenizer() -> LaVITVisualTokenizer:
    """A small tokenizer with random weights: it shows the mechanics, not what is worth keeping."""
    torch.manual_seed(0)
    encoder_config = Blip2VisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=4, initializer_range=0.02
    )
    config = LaVITVisualTokenizerConfig(
        encoder_config=encoder_config,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=768,
        merger_softmax="masked",
        selection="ratio",
    )
    return LaVITVisualTokenizer(config).eval()


def main(
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo"),
    model: Annotated[Path | None, typer.Option(help="A visual tokenizer or a full LaVIT; untrained if none.")] = None,
) -> None:
    """Tokenize the example pictures and save the kept patches over them."""
    tokenizer = untrained_tokenizer() if model is None else LaVITVisualTokenizer.from_pretrained(model)
    size = tokenizer.config.image_size
    processor = LaVITImageProcessorPil(size={"height": size, "width": size})
    paths = sorted(PICTURES.glob("*.jpg"))
    images = [Image.open(path) for path in paths]
    with torch.no_grad():
        outputs = tokenizer(**processor(images, return_tensors="pt"))
    if model is None:
        print("No trained model yet: random weights choose the patches, a third of them in every picture.")
    for path, codes in zip(paths, outputs.codes, strict=True):
        print(
            f"{path.name}: {len(codes)} of {tokenizer.config.num_patches} patches kept, codes {codes[:8].tolist()} ..."
        )
    overlays = [draw_keep_mask(image, mask) for image, mask in zip(images, outputs.keep_mask, strict=True)]
    output.mkdir(parents=True, exist_ok=True)
    note = ", random weights" if model is None else ""
    titles = [
        f"{path.stem}: {len(codes)} of {tokenizer.config.num_patches} patches{note}"
        for path, codes in zip(paths, outputs.codes, strict=True)
    ]
    image_grid(overlays, columns=len(overlays), titles=titles).save(output / "kept_patches.png")
    print(f"Saved {output / 'kept_patches.png'}")


if __name__ == "__main__":
    typer.run(main)

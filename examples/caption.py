# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Captions images.

    python examples/caption.py
    python examples/caption.py my-pictures/*.jpg --model lavit-7b
"""

from pathlib import Path
from typing import Annotated

import typer

from lavit_hf import LaVITForCausalLM, LaVITProcessor, bundled_checkpoint


EMOJI = sorted((Path(__file__).parent / "images" / "emoji").glob("*.png"))


def main(
    images: Annotated[list[Path], typer.Argument(help="Images.", show_default="the example drawings")] = EMOJI,
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="PyTorch device to run on.")] = "cpu",
) -> None:
    """Caption images."""
    processor = LaVITProcessor.from_pretrained(model)
    lavit = LaVITForCausalLM.from_pretrained(model, device_map=device)

    inputs = processor(images=[str(image) for image in images], return_tensors="pt").to(lavit.device)
    texts = processor.post_process_image_text_to_text(lavit.generate(**inputs))
    for image, caption in zip(images, processor.post_process_caption(texts)):
        print(f"{image.name}: {caption}")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Loads a LaVIT model with its language model in 8 or 4 bits, and checks that the ids of images stay the same.

    python examples/load_quantized.py
    python examples/load_quantized.py --bits 4 --model lavit-7b
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import BitsAndBytesConfig

from lavit_hf import LaVITForCausalLM, LaVITProcessor, bundled_checkpoint


EMOJI = Path(__file__).parent / "images" / "emoji"
QUANTIZATIONS = {
    8: {"load_in_8bit": True},
    4: {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
}


@torch.no_grad()
def main(
    bits: Annotated[int, typer.Option(help="Number of bits, 8 or 4.")] = 8,
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="PyTorch device to run on.")] = "cpu",
) -> None:
    """Compare a LaVIT model in its stored dtype with the same model in fewer bits."""
    if bits not in QUANTIZATIONS:
        raise typer.BadParameter("--bits must be 8 or 4.")
    processor = LaVITProcessor.from_pretrained(model)
    pictures = [str(path) for path in sorted(EMOJI.glob("*.png"))]
    pixel_values = processor.image_processor(pictures, return_tensors="pt").pixel_values

    whole = LaVITForCausalLM.from_pretrained(model, device_map=device)
    config = BitsAndBytesConfig(**QUANTIZATIONS[bits])
    quantized = LaVITForCausalLM.from_pretrained(model, quantization_config=config, device_map=device)
    ids = []
    for name, lavit in (("as stored", whole), (f"{bits} bits", quantized)):
        lavit.visual_tokenizer.config.selection = "threshold"  # sampled patches would differ even without quantization
        ids.append([image.cpu() for image in lavit.get_image_tokens(pixel_values.to(lavit.device))])
        print(f"{name}: {lavit.get_memory_footprint() / 1e6:.1f} MB")
    same = all(torch.equal(one, other) for one, other in zip(*ids))
    print(f"the ids of {len(pictures)} images are {'the same' if same else 'not the same'}")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Answers a question about images.

    python examples/ask.py
    python examples/ask.py "What is on the sofa?" cat.jpg --model lavit-7b
"""

from pathlib import Path
from typing import Annotated

import typer

from lavit_hf import LaVITForCausalLM, LaVITProcessor, bundled_checkpoint


EMOJI = sorted((Path(__file__).parent / "images" / "emoji").glob("*.png"))


def main(
    question: Annotated[str, typer.Argument(help="The question to ask.")] = "What category is this?",
    images: Annotated[list[Path], typer.Argument(help="Images.", show_default="the example drawings")] = EMOJI,
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    device: Annotated[str, typer.Option(help="PyTorch device to run on.")] = "cpu",
) -> None:
    """Answer a question about each image."""
    processor = LaVITProcessor.from_pretrained(model)
    lavit = LaVITForCausalLM.from_pretrained(model, device_map=device)

    prompts = [processor.format_question(question)] * len(images)
    inputs = processor(images=[str(image) for image in images], text=prompts, return_tensors="pt").to(lavit.device)
    # Five beams and short answers, as in the original's evaluation, but single-token answers are allowed.
    beams = {"num_beams": 5, "early_stopping": True, "length_penalty": 0.0}
    ids = lavit.generate(**inputs, **beams, min_new_tokens=1, max_new_tokens=10)
    texts = processor.post_process_image_text_to_text(ids[:, inputs.input_ids.shape[1] :])
    for image, answer in zip(images, processor.post_process_answer(texts)):
        print(f"{image.name}: {answer}")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Shows what the bundled checkpoint can do: captions, answers, reconstructions and generated images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image

from lavit_hf import LaVITPipeline, bundled_checkpoint
from lavit_hf.visualization import draw_keep_mask, image_grid, save_image


IMAGES = Path(__file__).parent / "images" / "emoji"
NAMES = ("penguin", "castle", "strawberry", "camel")
QUESTION = "What category is this?"
PROMPTS = (
    "red heart", "strawberry", "grinning face", "cat face",
    "panda", "tomato", "watermelon", "star",
    "green apple", "tangerine", "sun", "pig face",
)  # fmt: skip
COLUMNS = 4
TILE = 160  # side of an image on the page
GAP = 40


def write(pipeline: LaVITPipeline, images: Sequence[Image.Image], question: str | None = None) -> list[str]:
    """Captions of images, or answers to a question about each."""
    processor = pipeline.processor
    text = [processor.format_question(question) if question else ""] * len(images)
    inputs = processor(images=[[image] for image in images], text=text, return_tensors="pt")
    inputs = inputs.to(pipeline.device, pipeline.language_model.dtype)
    ids = pipeline.language_model.generate(**inputs)[:, inputs.input_ids.shape[1] :]
    texts = processor.post_process_image_text_to_text(ids)
    return processor.post_process_answer(texts) if question else processor.post_process_caption(texts)


@torch.no_grad()
def overlay(pipeline: LaVITPipeline, images: Sequence[Image.Image]) -> tuple[list[Image.Image], list[int]]:
    """Each image with its kept patches, and the number of kept patches."""
    inputs = pipeline.processor.image_processor(list(images), return_tensors="pt")
    tokenizer = pipeline.language_model.visual_tokenizer
    masks = tokenizer(inputs.pixel_values.to(tokenizer.device, tokenizer.dtype)).keep_mask
    return [draw_keep_mask(image, mask) for image, mask in zip(images, masks)], masks.sum(dim=1).tolist()


def read_page(pipeline: LaVITPipeline, paths: Sequence[Path], seed: int) -> Image.Image:
    """A grid with one column per image: the image with its caption, its kept patches and its reconstruction."""
    images = [Image.open(path).convert("RGB") for path in paths]
    captions, answers = write(pipeline, images), write(pipeline, images, QUESTION)
    overlays, kept = overlay(pipeline, images)
    rebuilt = pipeline.reconstruct(images, generator=torch.Generator().manual_seed(seed)).images
    for path, caption, answer, count in zip(paths, captions, answers, kept):
        print(f"{path.name}: {caption!r}. {QUESTION} {answer!r}. {count} patches kept")
    titles = [
        *(f'"{caption}"' for caption in captions),
        *(f"{count} patches kept" for count in kept),
        *("reconstructed from its tokens" for _ in images),
    ]
    return image_grid([*enlarge(images), *enlarge(overlays), *enlarge(rebuilt)], columns=COLUMNS, titles=titles)


def draw_page(pipeline: LaVITPipeline, seed: int) -> Image.Image:
    """A grid of images generated from texts."""
    drawn = pipeline(list(PROMPTS), generator=torch.Generator().manual_seed(seed)).images
    return image_grid(enlarge(drawn), columns=COLUMNS, titles=PROMPTS)


def enlarge(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Resizes images to the tile size."""
    return [image.resize((TILE, TILE), Image.Resampling.LANCZOS) for image in images]


def side_by_side(pages: Sequence[Image.Image]) -> Image.Image:
    """Places pages next to each other, with a gap between them."""
    width = sum(page.width for page in pages) + GAP * (len(pages) - 1)
    whole = Image.new("RGB", (width, max(page.height for page in pages)), "white")
    left = 0
    for page in pages:
        whole.paste(page, (left, 0))
        left += page.width + GAP
    return whole


def main(
    output: Annotated[Path, typer.Option(help="Folder for the image.")] = Path("demo"),
    model: Annotated[
        str | None, typer.Option(help="Path or Hub id of the model; the bundled checkpoint by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Caption and reconstruct the example images, generate images from texts, and save everything as one image."""
    pipeline = LaVITPipeline.from_pretrained(model or bundled_checkpoint())
    pipeline.set_progress_bar_config(disable=True)
    output.mkdir(parents=True, exist_ok=True)
    paths = [IMAGES / f"{name}.png" for name in NAMES]
    page = side_by_side([read_page(pipeline, paths, seed), draw_page(pipeline, seed)])
    save_image(page, output / "lavit.png")
    print(f"Saved {output / 'lavit.png'}")


if __name__ == "__main__":
    typer.run(main)

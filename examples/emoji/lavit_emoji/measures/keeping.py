# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Figures and images of the patches that a visual tokenizer keeps of sheets, whose drawn patches are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from PIL import Image, ImageDraw, ImageFont

from lavit_hf import (
    LaVITDetokenizer,
    LaVITImageProcessor,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.training.meters import rank_correlation
from lavit_hf.visualization import draw_keep_mask


BATCH_SIZE = 32
CELL = 192  # width of an image with probabilities, in pixels


@dataclass
class Sheets:
    """
    Features and annotations of sheets.

    Args:
        features (`torch.Tensor` of shape `(num_sheets, num_patches, feature_size)`): The encoder's features.
        drawn (`torch.Tensor` of shape `(num_sheets, num_patches)`): The share of each patch that is drawn.
        distance (`torch.Tensor` of shape `(num_sheets, num_patches)`):
            Distance to the nearest drawing in patches; 0 for patches with drawn content.
        number (`torch.Tensor` of shape `(num_sheets,)`): Number of drawings.
    """

    features: torch.Tensor
    drawn: torch.Tensor
    distance: torch.Tensor
    number: torch.Tensor


@torch.no_grad()
def encode(rows: Dataset, tokenizer: LaVITVisualTokenizer, processor: LaVITImageProcessor) -> Sheets:
    """Runs the encoder on rows from `prepare_sheets.py`."""
    features = []
    for batch in rows.iter(BATCH_SIZE):
        images = [image.convert("RGB") for image in batch["image"]]
        pixel_values = processor(images, return_tensors="pt").pixel_values.to(tokenizer.device)
        features.append(tokenizer.encode(pixel_values).last_hidden_state)
    told = rows.select_columns(["drawn", "distance", "names"])[:]
    return Sheets(
        torch.cat(features),
        torch.tensor(told["drawn"], device=tokenizer.device),
        torch.tensor(told["distance"], device=tokenizer.device),
        torch.tensor([len(names) for names in told["names"]], device=tokenizer.device),
    )


@torch.no_grad()
def select(tokenizer: LaVITVisualTokenizer, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The patches kept by the tokenizer's selection rule, and all probabilities, `(num_images, num_patches)` each."""
    kept, log_probs = tokenizer.select(features, tokenizer.embedding(features))
    return kept, log_probs[..., 0].exp()


def kept_figures(kept: torch.Tensor, probs: torch.Tensor, sheets: Sheets) -> dict:
    """
    Which patches are kept, and how their number depends on the content.

    Args:
        kept (`torch.BoolTensor` of shape `(num_sheets, num_patches)`): The kept patches.
        probs (`torch.Tensor` of shape `(num_sheets, num_patches)`): The probabilities of keeping each patch.
        sheets ([`Sheets`]): The sheets.

    Returns:
        `dict`: Mean probabilities and shares of kept patches by location; number of kept patches by threshold and by
        sampling (`lot`); the ratio of this number on sheets with the most drawings to that on sheets with the fewest
        (`four_to_one`); and its rank correlation with the drawn area (`count_to_drawn_area`).
    """
    counts = kept.sum(dim=1).float()
    by_lot = probs.sum(dim=1)
    drawn = sheets.distance == 0
    by_threshold = _by_number(counts, sheets.number)
    return {
        "probability": {"drawn": probs[drawn].mean().item(), "blank": probs[~drawn].mean().item()},
        "undecided": ((probs > 0.1) & (probs < 0.9)).float().mean().item(),
        "kept": {name: kept[mask].float().mean().item() for name, mask in _places(sheets).items()},
        "count": counts.mean().item(),
        "count_std": counts.std().item(),
        "count_by_lot": by_lot.mean().item(),
        "lot_to_threshold": (by_lot.mean() / counts.mean()).item(),
        "count_by_number": by_threshold,
        "count_by_lot_by_number": _by_number(by_lot, sheets.number),
        "four_to_one": by_threshold[-1] / by_threshold[0],
        "count_to_drawn_area": rank_correlation(counts, sheets.drawn.sum(dim=1)).item(),
    }


def _places(sheets: Sheets) -> dict[str, torch.Tensor]:
    """Masks of patches by location: inside drawings, at their edges, and so on."""
    drawn = sheets.distance == 0
    side = int(drawn.shape[1] ** 0.5)
    places = torch.arange(drawn.shape[1], device=drawn.device)
    border = sum(axis % (side - 1) == 0 for axis in (places // side, places % side)) > 0
    return {
        "inside": sheets.drawn > 0.9,
        "edge": drawn & (sheets.drawn <= 0.9),
        "drawn": drawn,
        "drawn_at_border": drawn & border,
        "drawn_elsewhere": drawn & ~border,
        "touching": sheets.distance == 1,
        "far": sheets.distance >= 2,
    }


def _by_number(values: torch.Tensor, number: torch.Tensor) -> list[float]:
    """The mean of values over sheets with one drawing, two drawings, and so on."""
    return [values[number == count].mean().item() for count in number.unique()]


def cosine_figures(name: str, rebuilt: torch.Tensor, targets: torch.Tensor, drawn: torch.Tensor) -> dict[str, float]:
    """
    The cosine similarity between reconstructed features and the encoder's.

    Args:
        name (`str`): Name of the figures.
        rebuilt (`torch.Tensor` of shape `(num_images, num_patches, channels)`): Reconstructed features.
        targets (`torch.Tensor` of the same shape): The encoder's features.
        drawn (`torch.BoolTensor` of shape `(num_images, num_patches)`): Mask of the drawn patches.

    Returns:
        `dict[str, float]`: The mean cosine over all patches (`name`) and over drawn patches (`name_drawn`).
    """
    cosines = torch.nn.functional.cosine_similarity(rebuilt.float(), targets.float(), dim=-1)
    return {name: cosines.mean().item(), f"{name}_drawn": cosines[drawn].mean().item()}


def load_detokenizer(model: Path, tokenizer: LaVITVisualTokenizer) -> LaVITDetokenizer | None:
    """
    Loads the detokenizer, which reconstructs features from codes.

    Args:
        model (`Path`): A repo with a pixel decoder, or a checkpoint from stage 1.
        tokenizer ([`LaVITVisualTokenizer`]): Its visual tokenizer, whose codebook the detokenizer uses.

    Returns:
        [`LaVITDetokenizer`] or `None`: The detokenizer in fp32; `None` if there is no detokenizer trained on codes.
    """
    if (model / "detokenizer").is_dir():
        detokenizer = LaVITDetokenizer.from_pretrained(model, subfolder="detokenizer", dtype="float32")
    elif LaVITVisualTokenizerForPreTraining.__name__ in (tokenizer.config.architectures or []):
        detokenizer = LaVITVisualTokenizerForPreTraining.from_pretrained(model, dtype="float32").detokenizer
    else:
        return None
    detokenizer.set_codebook(tokenizer.quantizer.codebook.weight.detach())
    return detokenizer.eval()


@torch.no_grad()
def rebuilt_figures(
    tokenizer: LaVITVisualTokenizer, detokenizer: LaVITDetokenizer, kept: torch.Tensor, sheets: Sheets, seed: int
) -> dict[str, float]:
    """
    How well features of sheets are reconstructed from codes: for the kept patches, and for the same number of random
    patches of each sheet, with the same detokenizer, which wasn't trained on random patches.

    Args:
        tokenizer ([`LaVITVisualTokenizer`]): Converts patches to codes.
        detokenizer ([`LaVITDetokenizer`]): Reconstructs features from codes, with the tokenizer's codebook.
        kept (`torch.BoolTensor` of shape `(num_sheets, num_patches)`): The kept patches.
        sheets ([`Sheets`]): The sheets.
        seed (`int`): Seed of the random patches.

    Returns:
        `dict[str, float]`: `selected`, `selected_drawn`, `random`, `random_drawn`, and `codes_used`, the share of the
        codebook that is used for at least one kept patch.
    """
    generator = torch.Generator(kept.device).manual_seed(seed)
    order = torch.rand(kept.shape, generator=generator, device=kept.device).argsort(dim=1)
    figures = {}
    for name, masks in (("selected", kept), ("random", kept.gather(1, order))):
        codes = [
            image
            for features, mask in zip(sheets.features.split(BATCH_SIZE), masks.split(BATCH_SIZE))
            for image in tokenizer.tokenize(features, mask).codes
        ]
        rebuilt = [detokenizer(codes=codes[i : i + BATCH_SIZE]).features for i in range(0, len(codes), BATCH_SIZE)]
        figures |= cosine_figures(name, torch.cat(rebuilt), sheets.features, sheets.distance == 0)
        if masks is kept:
            figures["codes_used"] = len(torch.cat(codes).unique()) / tokenizer.config.codebook_size
    return figures


@torch.no_grad()
def mark_kept(
    images: Sequence[Image.Image],
    tokenizer: LaVITVisualTokenizer,
    processor: LaVITImageProcessor,
    size: int = 256,
) -> Iterator[Image.Image]:
    """
    Images with kept patches in color and dropped patches dimmed.

    Args:
        images (`Sequence[PIL.Image.Image]`): Images of any size.
        tokenizer ([`LaVITVisualTokenizer`]): The visual tokenizer.
        processor ([`LaVITImageProcessor`]): Its image processor.
        size (`int`, *optional*, defaults to 256): Longer side of the marked images, in pixels.

    Returns:
        `Iterator[PIL.Image.Image]`: The marked images.
    """
    images = [image.convert("RGB") for image in images]
    pixel_values = processor(images, return_tensors="pt").pixel_values.to(tokenizer.device)
    kept, _ = select(tokenizer, tokenizer.encode(pixel_values).last_hidden_state)
    return (draw_keep_mask(image, mask, size=size) for image, mask in zip(images, kept))


def draw_probabilities(image: Image.Image, kept: torch.Tensor, probs: torch.Tensor) -> Image.Image:
    """An image with kept patches outlined, and the probability of each patch in percent."""
    picture = image.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(9)
    side = int(len(kept) ** 0.5)
    width = CELL / side
    for place, (is_kept, prob) in enumerate(zip(kept.tolist(), probs.tolist())):
        left, top = (place % side) * width, (place // side) * width
        draw.text((left + width / 2, top + width / 2), f"{100 * prob:.0f}", (0, 0, 0), font, anchor="mm")
        if is_kept:
            draw.rectangle((left + 1, top + 1, left + width - 2, top + width - 2), outline=(255, 0, 0))
    return picture

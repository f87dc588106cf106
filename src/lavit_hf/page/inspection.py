# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the *Look inside* tab does: an image as it goes through the model, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from ..lavit.image_loading import reduce_long_sides
from ..lavit.keep_settings import KeepSettings
from ..lavit.modeling_visual_tokenizer import KEEP, LaVITVisualTokenizerOutput
from ..tasks.tokenizing import OVERLAY_SIZE, mark_codes
from .drawing import DrawSettings
from .model import PageModel


@dataclass(frozen=True)
class Inspection:
    """
    What becomes of an image.

    Args:
        square (`PIL.Image.Image`):
            The image, squeezed into a square as the model gets it, but of a size to look at.
        size (`tuple[int, int]`):
            Its width and height.
        codes (`list[int]`):
            The codes of the kept patches in raster order.
        keep_mask (`torch.BoolTensor` of shape `(num_patches,)`):
            The kept patches.
        keep_probabilities (`torch.Tensor` of shape `(num_patches,)`):
            How likely the selector keeps each.
        token_ids (`list[int]`):
            The sentence of the language model.
        similarity (`float`, *optional*):
            Mean cosine between the encoder's features and those rebuilt from the codes, where there is a detokenizer.
    """

    square: Image.Image
    size: tuple[int, int]
    codes: list[int]
    keep_mask: torch.Tensor
    keep_probabilities: torch.Tensor
    token_ids: list[int]
    similarity: float | None = None

    @property
    def kept(self) -> list[int]:
        """The kept patches' numbers, in the order of `codes`."""
        return self.keep_mask.nonzero().flatten().tolist()

    def shows(self, other: "Inspection") -> bool:
        """Whether it is the same image."""
        return self.square.tobytes() == other.square.tobytes()

    def code_of(self, patch: int) -> int | None:
        """The code of a patch; `None` where it was dropped."""
        return self.codes[self.kept.index(patch)] if self.keep_mask[patch] else None


@torch.no_grad()
def inspect_images(
    model: PageModel, images: Sequence[Image.Image], keep: KeepSettings | None = None
) -> list[Inspection]:
    """
    Looks at what becomes of images.

    Args:
        model (`PageModel`):
            The model.
        images (`Sequence[PIL.Image.Image]`):
            The images.
        keep ([`KeepSettings`], *optional*):
            How many patches to keep; by default the model's own rule decides.

    Returns:
        `list[Inspection]`.
    """
    generator, _ = model.make_generator()
    outputs = model.visual_tokenizer(model.prepare(*images), generator=generator, **keep or {})
    similarities = _compare_features(model, outputs)
    return [
        Inspection(
            reduce_long_sides(image).resize((OVERLAY_SIZE, OVERLAY_SIZE), Image.Resampling.BICUBIC),
            image.size,
            codes.tolist(),
            mask.cpu(),
            log_probs[:, KEEP].exp().cpu(),
            mark_codes(codes.tolist(), model.language_model.config),
            similarity,
        )
        for image, codes, mask, log_probs, similarity in zip(
            images, outputs.codes, outputs.keep_mask, outputs.keep_log_probs, similarities
        )
    ]


def paint(
    model: PageModel, sentences: Sequence[Sequence[int]], settings: DrawSettings, same_noise: bool = False
) -> list[Image.Image]:
    """
    Paints images from their tokens alone.

    Args:
        model (`PageModel`):
            The model.
        sentences (`Sequence[Sequence[int]]`):
            Token ids of each image.
        settings (`DrawSettings`):
            How.
        same_noise (`bool`, *optional*, defaults to `False`):
            Whether all start from one noise, so that they differ by their tokens only.

    Returns:
        `list[PIL.Image.Image]`.
    """
    generator, seed = model.make_generator(settings.seed)
    generators = [model.make_generator(seed)[0] for _ in sentences] if same_noise else generator
    return model.painter(
        image_token_ids=[torch.tensor(ids) for ids in sentences],
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=generators,
    ).images


def describe_steps(model: PageModel, inspection: Inspection) -> list[tuple[str, str]]:
    """
    What each step kept of an image, in words.

    Args:
        model (`PageModel`):
            The model.
        inspection (`Inspection`):
            The image.

    Returns:
        `list[tuple[str, str]]`: the name of each step, and what is left behind it.
    """
    config = model.visual_tokenizer.config
    patches, kept, different = config.num_patches, len(inspection.codes), len(set(inspection.codes))
    bits = kept * (config.codebook_size - 1).bit_length()
    low, high = inspection.keep_probabilities.aminmax()
    side = config.image_size
    steps = [
        ("Image", f"{inspection.size[0]} x {inspection.size[1]} pixels, resized to {side} x {side}"),
        ("Encoder", f"{patches} patches, each a vector of {config.feature_size} values"),
        (
            "Selector",
            f"{kept} of {patches} patches kept ({kept / patches:.0%}); keep probabilities from {low:.0%} to "
            f"{high:.0%}",
        ),
        ("Merger", f"merges the {patches - kept} dropped patches into the kept ones"),
        ("Codebook", f"{kept} codes, {different} of them distinct, out of {config.codebook_size:,}: {bits} bits"),
        ("Language model", f"reads {len(inspection.token_ids)} tokens, including the two image marks"),
    ]
    if inspection.similarity is not None:
        rebuilt = (
            f"reconstructs {patches} feature vectors, with a mean cosine similarity of {inspection.similarity:.2f} "
            "to the encoder's (1 means equal)"
        )
        steps.append(("Detokenizer", rebuilt))
    if model.pipeline is not None:
        side = model.pipeline.picture_size
        steps.append(("U-Net", f"draws {side} x {side} pixels from these features and noise"))
    return steps


def _compare_features(model: PageModel, outputs: LaVITVisualTokenizerOutput) -> list[float | None]:
    if model.pipeline is None:
        return [None] * len(outputs.codes)
    rebuilt = model.pipeline.detokenizer(codes=outputs.codes).features
    cosines = torch.nn.functional.cosine_similarity(rebuilt.float(), outputs.last_hidden_state.float(), dim=-1)
    return cosines.mean(dim=1).tolist()

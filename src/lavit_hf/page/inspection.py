# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Inspects the steps of the model for an image, for the *Look inside* tab."""

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
    The intermediate results of the model for an image.

    Args:
        square (`PIL.Image.Image`):
            The image, resized to a square like the model's input, but larger for display.
        size (`tuple[int, int]`):
            Width and height of the image.
        codes (`list[int]`):
            The codes of the kept patches in raster order.
        keep_mask (`torch.BoolTensor` of shape `(num_patches,)`):
            The kept patches.
        keep_probabilities (`torch.Tensor` of shape `(num_patches,)`):
            The selector's keep probability for each patch.
        token_ids (`list[int]`):
            Token ids of the image.
        similarity (`float`, *optional*):
            Mean cosine similarity between the encoder's features and those rebuilt from the codes, if there is a
            detokenizer.
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
        """Indices of the kept patches, in the order of `codes`."""
        return self.keep_mask.nonzero().flatten().tolist()

    def shows(self, other: "Inspection") -> bool:
        """Whether it is the same image."""
        return self.square.tobytes() == other.square.tobytes()

    def code_of(self, patch: int) -> int | None:
        """Returns the code of a patch, or `None` if it was dropped."""
        return self.codes[self.kept.index(patch)] if self.keep_mask[patch] else None


@torch.no_grad()
def inspect_images(
    model: PageModel, images: Sequence[Image.Image], keep: KeepSettings | None = None
) -> list[Inspection]:
    """
    Runs images through the model and collects intermediate results.

    Args:
        model (`PageModel`):
            The model.
        images (`Sequence[PIL.Image.Image]`):
            The images.
        keep ([`KeepSettings`], *optional*):
            How many patches to keep. Defaults to the model's own rule.

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
    Generates images from their tokens.

    Args:
        model (`PageModel`):
            The model.
        sentences (`Sequence[Sequence[int]]`):
            Token ids of each image.
        settings (`DrawSettings`):
            The settings.
        same_noise (`bool`, *optional*, defaults to `False`):
            Whether to start all images from the same noise, so that they only differ by their tokens.

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
    Describes what each step keeps of an image.

    Args:
        model (`PageModel`):
            The model.
        inspection (`Inspection`):
            The image.

    Returns:
        `list[tuple[str, str]]`: the name of each step, and a description of its output.
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

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Images paired with the codes or features to generate them from, and their batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from datasets import Dataset
from datasets.fingerprint import Hasher
from diffusers.image_processor import VaeImageProcessor

from ..lavit.image_loading import reduce_long_sides, to_rgb_image
from .data import skip_broken_images
from .errors import TrainingError
from .feature_rows import from_bytes, to_bytes
from .modeling_pixel_decoder_training import CODE_PADDING, LaVITPixelDecoderForTraining


# Columns that identify rows; if both datasets have them, they must be equal.
KEYS = ("row", "view")
LATENTS_COLUMN = "latents"


class PairedRows(torch.utils.data.Dataset):
    """
    Combines the columns of several datasets, row by row.

    Args:
        parts (`Dataset`):
            Datasets with the same number of rows, first that of the images or their latents.
    """

    def __init__(self, *parts: Dataset):
        self.parts = parts

    @property
    def column_names(self) -> list[str]:
        return [name for part in self.parts for name in part.column_names]

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, index: int) -> dict:
        return {name: value for part in self.parts for name, value in part[index].items()}

    def select_columns(self, names: Sequence[str]) -> "PairedRows":
        """Returns the rows with only the given columns."""
        parts = [part.select_columns([name for name in part.column_names if name in names]) for part in self.parts]
        return PairedRows(*(part for part in parts if part.column_names))


class Collator:
    """
    Collates rows into batches.

    Args:
        readers (`Callable[[list[dict]], torch.Tensor]`):
            A function for each tensor of a batch, which creates it from rows.
    """

    def __init__(self, **readers: Callable[[list[dict]], torch.Tensor]):
        self.readers = readers

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        return {name: read(rows) for name, read in self.readers.items()}


def pair_rows(pictures: Dataset, conditions: Dataset | None = None, image_column: str = "image") -> PairedRows:
    """
    Pairs images with codes or features, and skips unreadable images.

    Args:
        pictures (`Dataset`):
            The images.
        conditions (`Dataset`, *optional*):
            Codes or features of the same images, row by row, with or without those of unreadable images. Defaults to
            the other columns of `pictures`.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of the images.

    Raises:
        TrainingError: If the column is missing, no image can be read, or the datasets do not match.
    """
    if image_column not in pictures.column_names:
        raise TrainingError(f"the images have no column {image_column!r}, only {', '.join(pictures.column_names)}.")
    numbered = pictures.select_columns([image_column]).add_column("number", np.arange(len(pictures)))
    kept = skip_broken_images(numbered, image_column)
    others = _select_readable(pictures, conditions, kept["number"][:])
    others = others.select_columns([name for name in others.column_names if name != image_column])
    return PairedRows(kept.select_columns([image_column]), *([others] if others.column_names else []))


def _select_readable(pictures: Dataset, conditions: Dataset | None, readable: list[int]) -> Dataset:
    """Returns the conditions of the readable images, or else their other columns."""
    if conditions is None:
        return pictures.select(readable)
    if len(conditions) == len(readable):  # the pretokenizer leaves out the others
        check_pairs(pictures.select(readable), conditions)
        return conditions
    check_pairs(pictures, conditions)
    return conditions.select(readable)


def cache_latents(
    rows: PairedRows,
    model: LaVITPixelDecoderForTraining,
    read_pictures: Callable[[list[dict]], torch.Tensor],
    keep_pictures: bool = False,
    batch_size: int = 64,
) -> PairedRows:
    """
    Computes the latents of all images once. They are saved in the cache of `datasets` and reused from there.

    Args:
        rows ([`PairedRows`]):
            The rows.
        model ([`LaVITPixelDecoderForTraining`]):
            Encodes the images.
        read_pictures (`Callable[[list[dict]], torch.Tensor]`):
            Creates `pixel_values` from rows.
        keep_pictures (`bool`, *optional*, defaults to `False`):
            Whether to also keep the images.
        batch_size (`int`, *optional*, defaults to 64):
            Number of images to encode at once.

    Returns:
        [`PairedRows`]: The rows with the column `latents`.
    """
    device = next(model.vae.parameters()).device

    def encode(batch: dict) -> dict:
        batch = [dict(zip(batch, values)) for values in zip(*batch.values())]
        latents = model.encode_pictures(read_pictures(batch).to(device))
        return {LATENTS_COLUMN: [to_bytes(image.flatten(start_dim=1)) for image in latents]}

    model.eval()
    pictures, *others = rows.parts
    weights = [tensor.float().cpu().numpy().tobytes() for tensor in model.vae.state_dict().values()]
    latents = pictures.map(
        encode,
        batched=True,
        batch_size=batch_size,
        remove_columns=pictures.column_names,
        new_fingerprint=Hasher.hash([pictures._fingerprint, model.picture_size, dict(model.vae.config), weights]),
        desc="latents",
    )
    return PairedRows(latents, *(rows.parts if keep_pictures else others))


def read_pixels(rows: list[dict], column: str, image_processor: VaeImageProcessor, size: int) -> torch.Tensor:
    """Reads target images, `(batch_size, 3, size, size)`, with values in -1..1."""
    images = [reduce_long_sides(to_rgb_image(row[column])) for row in rows]
    return image_processor.preprocess(images, size, size)


def read_images(rows: list[dict], column: str, image_processor: Callable) -> torch.Tensor:
    """Reads images for the visual tokenizer, `(batch_size, num_channels, image_size, image_size)`."""
    return image_processor([to_rgb_image(row[column]) for row in rows], return_tensors="pt").pixel_values


def read_latents(rows: list[dict], size: int) -> torch.Tensor:
    """Reads precomputed latents, `(batch_size, latent_channels, size, size)`."""
    flat = torch.stack([from_bytes(row[LATENTS_COLUMN], size * size) for row in rows])
    return flat.float().unflatten(-1, (size, size))


def read_features(rows: list[dict], column: str, width: int) -> torch.Tensor:
    """Reads precomputed features, `(batch_size, num_patches, width)`."""
    return torch.stack([from_bytes(row[column], width) for row in rows]).float()


def read_codes(rows: list[dict], column: str, num_patches: int) -> torch.Tensor:
    """
    Reads codes, padded to the maximum number: `(batch_size, num_patches)`.

    Raises:
        TrainingError: If an image has no codes, more codes than patches, or a negative code.
    """
    for row in rows:
        codes = row[column]
        if not codes or len(codes) > num_patches or min(codes) < 0:
            raise TrainingError(
                f"an image has {len(codes or ())} codes{', one below 0' if codes and min(codes) < 0 else ''}, but "
                f"needs between one and {num_patches}, none below 0."
            )
    return torch.tensor([[*row[column], *[CODE_PADDING] * (num_patches - len(row[column]))] for row in rows])


def check_pairs(pictures: Dataset, conditions: Dataset) -> None:
    """
    Checks that images match their codes or features.

    Args:
        pictures (`Dataset`):
            The images.
        conditions (`Dataset`):
            Codes or features of the same images, row by row.

    Raises:
        TrainingError: If the numbers of rows or the columns that identify rows differ.
    """
    if len(pictures) != len(conditions):
        raise TrainingError(
            f"there are {len(pictures)} images, but codes or features for {len(conditions)}. They must be made from "
            "the same images, in the same order."
        )
    for key in KEYS:
        if key in pictures.column_names and key in conditions.column_names:
            differ = np.flatnonzero(np.asarray(pictures[key]) != np.asarray(conditions[key]))
            if len(differ):
                raise TrainingError(
                    f"images and codes or features do not match at row {differ[0]}, where {key!r} differs. They must "
                    "be in the same order."
                )

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pooled features of the frozen encoder, cached on disk, and naming images by the nearest class mean."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

import torch
from datasets import Dataset
from PIL import Image
from safetensors.torch import load_file, save_file

from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer
from lavit_hf.fast_dtypes import fast_autocast
from lavit_hf.lavit.atomic_files import atomic_file


def batches(items: Sequence, size: int) -> list[Sequence]:
    """Splits a sequence into batches of at most `size` items."""
    return [items[start : start + size] for start in range(0, len(items), size)]


class Looker:
    """
    Computes pooled features of images with the frozen encoder of a visual tokenizer.

    Args:
        visual_tokenizer ([`LaVITVisualTokenizer`]): The visual tokenizer.
        image_processor ([`LaVITImageProcessor`]): Its image processor.
        cache (`Path`, *optional*): Folder to cache features in; by default, nothing is cached.
    """

    def __init__(
        self,
        visual_tokenizer: LaVITVisualTokenizer,
        image_processor: LaVITImageProcessor,
        cache: Path | None = None,
    ):
        self.visual_tokenizer, self.image_processor, self.cache = visual_tokenizer, image_processor, cache

    @torch.inference_mode()
    def __call__(self, images: Iterable[Image.Image], batch_size: int = 32) -> torch.Tensor:
        """
        Computes the features of images, with bf16 autocast if that is fast on the device.

        Args:
            images (`Iterable[PIL.Image.Image]`): Images of any mode.
            batch_size (`int`, *optional*, defaults to 32): Number of images per batch.

        Returns:
            `torch.Tensor` of shape `(num_images, 2 * feature_size)`: The mean and the maximum of the features over all
            patches, in fp32.
        """
        images, looks = (image.convert("RGB") for image in images), []
        while batch := list(islice(images, batch_size)):
            pixel_values = self.image_processor(batch, return_tensors="pt").pixel_values
            with fast_autocast(pixel_values.device):
                pixel_values = pixel_values.to(memory_format=torch.channels_last)
                features = self.visual_tokenizer.encode(pixel_values).last_hidden_state.float()
            looks.append(torch.cat([features.mean(dim=1), features.amax(dim=1)], dim=-1))
        return torch.cat(looks)

    def remember(self, name: str, make_images: Callable[[], Iterable[Image.Image]]) -> torch.Tensor:
        """
        Returns the cached features of images, and computes them if they are not cached for this encoder.

        Args:
            name (`str`): Name of the set of images in the cache.
            make_images (`Callable`): Returns the images if they are needed.

        Returns:
            `torch.Tensor`: The features, as returned by a call.
        """
        if self.cache is None:
            return self(make_images()).clone()
        path = self.cache / f"{name}-{_digest(self.visual_tokenizer.encoder)}.safetensors"
        if not path.is_file():
            with atomic_file(path) as file:
                save_file({"looks": self(make_images()).clone()}, file)
        return load_file(path)["looks"]


def name_of(split: str, rows: Dataset) -> str:
    """The name of the images of a split for [`Looker.remember`]; it contains their number and size."""
    return f"{split}-{len(rows)}-{rows[0]['image'].width}"


class ClassMeans:
    """
    Names images by the nearest class mean. It shows what can be read from the encoder's features without a language
    model.

    Args:
        features (`torch.Tensor` of shape `(num_images, feature_size)`): Averaged features of the images to learn from.
        names (`Sequence[str]`): Names of these images.
    """

    def __init__(self, features: torch.Tensor, names: Sequence[str]):
        self.names = sorted(set(names))
        index = {name: number for number, name in enumerate(self.names)}
        classes = torch.tensor([index[name] for name in names])
        sums = features.new_zeros(len(self.names), features.shape[1]).index_add(0, classes, features)
        self.means = sums / torch.bincount(classes)[:, None]

    def __call__(self, features: torch.Tensor) -> list[str]:
        """The name of each image, given averaged features of shape `(num_images, feature_size)`."""
        return [names[0] for names in self.nearest(features, 1)]

    def nearest(self, features: torch.Tensor, count: int) -> list[list[str]]:
        """The names of the `count` classes nearest to each image, nearest first."""
        found = torch.cdist(features, self.means).topk(count, dim=1, largest=False).indices
        return [[self.names[number] for number in numbers] for numbers in found.tolist()]


def averaged(looks: torch.Tensor) -> torch.Tensor:
    """The averaged features in the output of a [`Looker`]: the first half of `(num_images, 2 * feature_size)`."""
    return looks[:, : looks.shape[1] // 2]


def _digest(module: torch.nn.Module) -> str:
    """A short digest of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.float().numpy(force=True).tobytes())
    return digest.hexdigest()[:12]

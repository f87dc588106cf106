# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
A judge that names what generated images show: a linear discriminant on the features of LaVIT's own frozen encoder.

It is fitted to the training drawings, in their original resolution and in that of LaVIT's images, and isn't used to
train LaVIT. Because it shares the encoder, it is not independent of the model.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from PIL import Image

from .looking import Looker


SHRINKAGE = 0.2  # of the covariance towards its diagonal; chosen on `validation` and `validation_artist`
WINDOWS = (1 / 2, 5 / 8, 3 / 4)  # sizes of the windows to find drawings of a sheet in, as shares of the image's side
WINDOW_STEPS = 3  # positions of a window in each direction


class Judge:
    """
    Names images with linear discriminant analysis: by the nearest class mean, given the covariance within classes. It
    is deterministic.

    Args:
        looker ([`Looker`]): Computes features of images.
        looks (`torch.Tensor` of shape `(num_pictures, 2 * feature_size)`): Features of the images to learn from.
        names (`Sequence[str]`): Names of these images.
    """

    def __init__(self, looker: Looker, looks: torch.Tensor, names: Sequence[str]):
        self.look = looker
        self.names = sorted(set(names))
        self.index = {name: number for number, name in enumerate(self.names)}
        classes = torch.tensor([self.index[name] for name in names])
        means = looks.new_zeros(len(self.names), looks.shape[1]).index_add(0, classes, looks)
        means = means / torch.bincount(classes)[:, None]
        within = looks - means[classes]
        covariance = within.T @ within / len(looks)
        covariance = torch.lerp(covariance, torch.diag(covariance.diagonal()), SHRINKAGE)
        # Constant channels have no variance.
        covariance.diagonal().add_(1e-6 * covariance.diagonal().mean())
        self.weight = torch.linalg.solve(covariance, means.T)
        self.bias = -(means * self.weight.T).sum(dim=1) / 2

    def rank(self, looks: torch.Tensor, names: Sequence[str], among: Collection[str] | None = None) -> torch.Tensor:
        """
        The rank of the right name of each image.

        Args:
            looks (`torch.Tensor` of shape `(number, 2 * feature_size)`): Features of images.
            names (`Sequence[str]`): Their right names.
            among (`Collection[str]`, *optional*): The names to choose from; all by default.

        Returns:
            `torch.Tensor` of shape `(number,)`: The ranks, 0 if the right name comes first.

        Raises:
            `ValueError`: If there was no image with this name to learn from.
        """
        unknown = sorted(set(names) - self.index.keys())
        if unknown:
            raise ValueError(f"The judge does not know {unknown[0]!r}, which has no training drawing.")
        scores = looks @ self.weight + self.bias
        right = scores.gather(1, torch.tensor([self.index[name] for name in names])[:, None])
        if among is not None:
            scores = scores[:, [self.index[name] for name in self.names if name in among]]
        return (scores > right).sum(dim=1)


def score_ranks(ranks: torch.Tensor) -> dict[str, float | int]:
    """How often the right name comes first, and is among the first five, given the output of [`Judge.rank`]."""
    return {
        "number": len(ranks),
        "first": (ranks < 1).float().mean().item(),
        "first_five": (ranks < 5).float().mean().item(),
    }


def windows(image: Image.Image) -> Iterator[Image.Image]:
    """Crops of an image with several sizes and positions, each of which may contain a single drawing."""
    for share in WINDOWS:
        width, height = round(share * image.width), round(share * image.height)
        steps = [index / (WINDOW_STEPS - 1) for index in range(WINDOW_STEPS)]
        for left in (round(step * (image.width - width)) for step in steps):
            for top in (round(step * (image.height - height)) for step in steps):
                yield image.crop((left, top, left + width, top + height))


def best_ranks(judge: Judge, pictures: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> torch.Tensor:
    """
    Looks for several things in each image, one by one. The rank of a thing is the best one among all windows.

    Args:
        judge ([`Judge`]): The judge.
        pictures (`Sequence[PIL.Image.Image]`): The images.
        names (`Sequence[Sequence[str]]`): Names of the things to find in each image, the same number for all images.

    Returns:
        `torch.Tensor` of shape `(num_pictures, num_names)`: The best ranks.
    """
    views = [view for picture in pictures for view in windows(picture)]
    looks = judge.look(views)
    per_picture = len(views) // len(pictures)
    ranks = [
        judge.rank(looks, [row[position] for row in names for _ in range(per_picture)]).view(-1, per_picture)
        for position in range(len(names[0]))
    ]
    return torch.stack([rank.amin(dim=1) for rank in ranks], dim=1)


def at_painted_size(images: Iterable[Image.Image], size: int) -> Iterator[Image.Image]:
    """Scales images down to the size of LaVIT's images and up again, so that the judge learns from such images."""
    for image in images:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        yield small.resize(image.size, Image.Resampling.BICUBIC)

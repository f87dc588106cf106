# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
A judge of generated images, which names what they show: a linear discriminant on the features of LaVIT's own frozen
encoder.

It is fitted to the training drawings alone, as they are and at the resolution of LaVIT's images, and plays no part in
training LaVIT. Because it shares the encoder, it is not independent of the model.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from PIL import Image

from .looking import Looker


SHRINKAGE = 0.2  # of the covariance towards its diagonal; chosen by `validation` and `validation_artist`
WINDOWS = (1 / 2, 5 / 8, 3 / 4)  # of an image's side, in which single drawings of a sheet are looked for
WINDOW_STEPS = 3  # places of a window across and down


class Judge:
    """
    Names images by the nearest of their classes' means, as far as the covariance within classes goes (linear
    discriminant analysis). Nothing about it is left to chance.

    Args:
        looker ([`Looker`]): Looks at the images.
        looks (`torch.Tensor` of shape `(num_pictures, 2 * feature_size)`): What it saw of those to learn from.
        names (`Sequence[str]`): Their names.
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
        # Channels that never change have no variance of their own.
        covariance.diagonal().add_(1e-6 * covariance.diagonal().mean())
        self.weight = torch.linalg.solve(covariance, means.T)
        self.bias = -(means * self.weight.T).sum(dim=1) / 2

    def rank(self, looks: torch.Tensor, names: Sequence[str], among: Collection[str] | None = None) -> torch.Tensor:
        """
        The place of the right name among others.

        Args:
            looks (`torch.Tensor` of shape `(number, 2 * feature_size)`): Looks at images.
            names (`Sequence[str]`): Their right names.
            among (`Collection[str]`, *optional*): The names that it may give; all if not given.

        Returns:
            `torch.Tensor` of shape `(number,)`: 0 where the right name is the first.

        Raises:
            `ValueError`: If it has learned no image of a name.
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
    """How often a right name is the first, and how often among the first five, from what [`Judge.rank`] gave."""
    return {
        "number": len(ranks),
        "first": (ranks < 1).float().mean().item(),
        "first_five": (ranks < 5).float().mean().item(),
    }


def windows(image: Image.Image) -> Iterator[Image.Image]:
    """Squares out of an image, of several sizes and in several places, in each of which a drawing may be alone."""
    for share in WINDOWS:
        width, height = round(share * image.width), round(share * image.height)
        steps = [index / (WINDOW_STEPS - 1) for index in range(WINDOW_STEPS)]
        for left in (round(step * (image.width - width)) for step in steps):
            for top in (round(step * (image.height - height)) for step in steps):
                yield image.crop((left, top, left + width, top + height))


def best_ranks(judge: Judge, pictures: Sequence[Image.Image], names: Sequence[Sequence[str]]) -> torch.Tensor:
    """
    Looks for several drawings on each image, one by one: a drawing's place is that in the window where it does best.

    Args:
        judge ([`Judge`]): Names what is in a window.
        pictures (`Sequence[PIL.Image.Image]`): Images.
        names (`Sequence[Sequence[str]]`): What is to be found on each, the same number everywhere.

    Returns:
        `torch.Tensor` of shape `(num_pictures, num_names)`: the best places.
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
    """Images made as small as LaVIT paints them and large again, so that the judge knows such images."""
    for image in images:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
        yield small.resize(image.size, Image.Resampling.BICUBIC)

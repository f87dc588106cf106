# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Views of a drawing to train on: as it is, and moved, scaled, turned, mirrored and tinted a little."""

import random
import re
from collections.abc import Iterator, Mapping

import torch
from PIL import Image
from torchvision.transforms import v2


SIDED = re.compile(r"\b(left|right|leftwards|rightwards)\b")  # drawings whose name would be wrong in a mirror

MOVED = v2.Compose(
    [
        v2.RandomAffine(
            degrees=8,
            translate=(0.08, 0.08),
            scale=(0.8, 1.1),
            interpolation=v2.InterpolationMode.BILINEAR,
            fill=255,
        ),
        v2.ColorJitter(brightness=0.15, contrast=0.15, saturation=0.2, hue=0.015),
    ]
)


def views(row: Mapping, number: int, seed: int) -> Iterator[Image.Image]:
    """
    Gives views of a row's drawing, the same for the same seed.

    Args:
        row (`Mapping`): A row, of which `image` and `name` are read.
        number (`int`): How many views; the first is the drawing as it is.
        seed (`int`): Seed of the others.

    Returns:
        `Iterator[PIL.Image.Image]`: The views.
    """
    drawing = row["image"].convert("RGB")
    yield drawing
    choose = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(number - 1):
            mirrored = choose.random() < 0.5 and not SIDED.search(row["name"])
            yield MOVED(drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else drawing)

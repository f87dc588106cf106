# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Sheets of one to four drawings of many sizes in many places, half of them on colored paper, with true texts."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset
from PIL import Image

from ..dataset.papers import random_paper, recolor
from .plans import draw_plan
from .texts import Placed, Question, caption, questions
from .things import Thing, Things


SIZES = {1: (48, 120), 2: (36, 76), 3: (32, 62), 4: (28, 58)}  # longer side for each number of drawings, of 128 pixels
WHITE_PAPER = 0.5  # share of sheets
GAP = 2  # pixels between drawings
LAYOUTS, SHRINK = 200, 0.92  # tries to place drawings before they are made smaller
FAINT = 16  # grey levels of the mask that do not count for a drawing's edge


@dataclass(frozen=True)
class SheetSettings:
    """
    How sheets look.

    Args:
        size (`int`, *optional*, defaults to 128): Their width and height, in pixels.
        patch_size (`int`, *optional*, defaults to 16): Width and height of the patches in their masks, in pixels.
        sizes (`Mapping[int, tuple[int, int]]`, *optional*):
            The least and the greatest length of a drawing's longer side, for sheets of one, two, three and four
            drawings, in pixels.
        plan (`str`, *optional*): The only kind of plan; all three by lot if not given, see `plans.py`.
        even (`bool`, *optional*, defaults to `False`):
            Whether the number of drawings goes round from one to four with the index, for mixed plans.

    Raises:
        `ValueError`: If patches do not fill the sheet, or drawings do not fit on it.
    """

    size: int = 128
    patch_size: int = 16
    sizes: Mapping[int, tuple[int, int]] = field(default_factory=lambda: dict(SIZES))
    plan: str | None = None
    even: bool = False

    def __post_init__(self):
        if self.size % self.patch_size:
            raise ValueError(f"Patches of {self.patch_size} pixels do not fill a sheet of {self.size}.")
        for number, (least, most) in self.sizes.items():
            if not 4 <= least <= most <= self.size:
                given = f"{least} to {most} pixels for sheets of {number}"
                raise ValueError(f"Drawings cannot have {given}. Pass a range within 4 to {self.size}.")


@dataclass(frozen=True)
class Sheet:
    """
    A sheet with all that is true of it.

    Args:
        image (`PIL.Image.Image`): What it looks like, RGB.
        coverage (`np.ndarray`): How much of each pixel is drawn, `(size, size)`, from 0 to 1.
        placed (`list[Placed]`): What is where, in reading order.
        paper (`tuple[int, int, int]`): The color of the paper.
        caption (`str`): What is on it: `a red apple and a dog`.
        questions (`list[Question]`): What can be asked about it, with the answers.
    """

    image: Image.Image
    coverage: np.ndarray
    placed: list[Placed]
    paper: tuple[int, int, int]
    caption: str
    questions: list[Question]


class SheetMaker:
    """
    Makes sheets from a split of the emoji set: the same ones for the same split and seed, in any order.

    Args:
        drawings ([`~datasets.Dataset`]): A split of what `prepare.py` wrote, of which alone it takes drawings.
        seed (`int`, *optional*, defaults to 0): The seed.
        settings ([`SheetSettings`], *optional*): How sheets look.

    Raises:
        `ValueError`: If the split has no masks, or too few things that can be named on sheets.
    """

    def __init__(self, drawings: Dataset, seed: int = 0, settings: SheetSettings | None = None):
        if "mask" not in drawings.column_names:
            raise ValueError("The drawings have no masks. Make the dataset again with prepare.py.")
        self.seed, self.settings, self.things = seed, settings or SheetSettings(), Things(drawings)
        self.drawings = drawings.select_columns(["image", "mask"])

    def __getitem__(self, index: int) -> Sheet:
        """
        Makes a sheet.

        Args:
            index (`int`): Its number, 0 or more.

        Returns:
            [`Sheet`]: The sheet.
        """
        if index < 0:
            raise IndexError(f"Sheets are numbered from 0, not {index}.")
        settings, chance = self.settings, random.Random(f"{self.seed}/{index}")
        number = 1 + index % 4 if settings.even else None
        plan = draw_plan(self.things, chance, settings.plan, number)
        elsewhere = draw_plan(self.things, chance, plan.name, number)  # what another sheet might have shown
        rows = [chance.choice(self.things.rows[thing.concept]) for thing in plan.things]
        layers = [self._layers(row, thing) for row, thing in zip(rows, plan.things, strict=True)]
        layers, boxes = place(layers, settings, chance)
        paper = (255, 255, 255)
        if chance.random() >= WHITE_PAPER:
            paper = random_paper(chance, avoid=[_ink(*layer) for layer in layers])
        image, coverage = compose(layers, boxes, paper, settings.size)
        placed = [Placed(*item) for item in zip(plan.things, rows, boxes, strict=True)]
        placed.sort(key=lambda item: (item.box[0] + item.box[2], item.box[1]))
        return Sheet(image, coverage, placed, paper, caption(placed), questions(plan, placed, elsewhere, chance))

    def _layers(self, row: int, thing: Thing) -> tuple[Image.Image, Image.Image]:
        """A drawing and its mask, recolored if the thing is, without the white around them."""
        drawing = self.drawings[row]
        image, mask = drawing["image"].convert("RGB"), drawing["mask"]
        if thing.color:
            image = recolor(image, mask, thing.color)
        box = mask.point(lambda level: 255 * (level >= FAINT)).getbbox()
        return image.crop(box), mask.crop(box)


Layers = tuple[Image.Image, Image.Image]
Box = tuple[int, int, int, int]


def place(layers: list[Layers], settings: SheetSettings, chance: random.Random) -> tuple[list[Layers], list[Box]]:
    """
    Scales drawings and finds places for them where they do not touch.

    Args:
        layers (`list[tuple[PIL.Image.Image, PIL.Image.Image]]`): Drawings and their masks, cropped.
        settings ([`SheetSettings`]): Sizes of sheet and drawings.
        chance (`random.Random`): Where chance comes from.

    Returns:
        `tuple[list[tuple[PIL.Image.Image, PIL.Image.Image]], list[tuple[int, int, int, int]]]`: The scaled drawings
        and masks, and the boxes for them: left, top, right and bottom, in pixels.
    """
    sides = [chance.uniform(*settings.sizes[len(layers)]) for _ in layers]
    while True:
        shapes = [_scaled_shape(image, side) for (image, _), side in zip(layers, sides, strict=True)]
        for _ in range(LAYOUTS):
            boxes = [_random_box(shape, settings.size, chance) for shape in shapes]
            if not any(_touch(boxes[i], boxes[j]) for i in range(len(boxes)) for j in range(i)):
                scaled = [
                    tuple(layer.resize(shape, Image.Resampling.LANCZOS) for layer in pair)
                    for pair, shape in zip(layers, shapes, strict=True)
                ]
                return scaled, boxes
        sides = [side * SHRINK for side in sides]


def compose(
    layers: list[Layers], boxes: list[Box], paper: tuple[int, int, int], size: int
) -> tuple[Image.Image, np.ndarray]:
    """
    Lays drawings on paper.

    Args:
        layers (`list[tuple[PIL.Image.Image, PIL.Image.Image]]`): Drawings on white and their masks.
        boxes (`list[tuple[int, int, int, int]]`): Where each goes.
        paper (`tuple[int, int, int]`): The color of the paper.
        size (`int`): Width and height of the sheet, in pixels.

    Returns:
        `tuple[PIL.Image.Image, np.ndarray]`: The sheet, and how much of each pixel is drawn, `(size, size)`.
    """
    pixels = np.full((size, size, 3), paper, dtype=np.float32)
    coverage = np.zeros((size, size), dtype=np.float32)
    for (image, mask), (left, top, right, bottom) in zip(layers, boxes, strict=True):
        covered = np.asarray(mask, dtype=np.float32) / 255
        there = np.s_[top:bottom, left:right]
        pixels[there] = np.asarray(image, dtype=np.float32) + (1 - covered[..., None]) * (pixels[there] - 255)
        coverage[there] = covered
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8)), coverage


def drawn_by_patch(coverage: np.ndarray, patch_size: int) -> np.ndarray:
    """
    The share of each patch that is drawn.

    Args:
        coverage (`np.ndarray`): How much of each pixel is drawn, `(size, size)`, from 0 to 1.
        patch_size (`int`): Width and height of a patch, in pixels.

    Returns:
        `np.ndarray`: `(size // patch_size, size // patch_size)`, from 0 to 1.
    """
    side = len(coverage) // patch_size
    return coverage.reshape(side, patch_size, side, patch_size).mean(axis=(1, 3))


def distance_by_patch(drawn: np.ndarray, patch_size: int) -> np.ndarray:
    """
    How many patches away the next drawing is: 0 where there is one, 1 where one touches, diagonally too. From 2 on a
    patch is far from any drawing.

    Args:
        drawn (`np.ndarray`): What [`drawn_by_patch`] gave, `(rows, columns)`. Less than one pixel's worth is nothing.
        patch_size (`int`): Width and height of a patch, in pixels.

    Returns:
        `np.ndarray`: `(rows, columns)`, whole numbers; on an empty sheet all are `rows + columns`.
    """
    places = np.argwhere(drawn >= 1 / patch_size**2)
    if not len(places):
        return np.full(drawn.shape, sum(drawn.shape))
    grid = np.stack(np.indices(drawn.shape), axis=-1)
    return np.abs(grid[:, :, None] - places).max(axis=-1).min(axis=-1)


def _scaled_shape(image: Image.Image, side: float) -> tuple[int, int]:
    scale = side / max(image.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _random_box(shape: tuple[int, int], size: int, chance: random.Random) -> Box:
    left, top = chance.randint(0, size - shape[0]), chance.randint(0, size - shape[1])
    return left, top, left + shape[0], top + shape[1]


def _touch(first: Box, second: Box) -> bool:
    return (
        first[0] < second[2] + GAP
        and second[0] < first[2] + GAP
        and first[1] < second[3] + GAP
        and second[1] < first[3] + GAP
    )


def _ink(image: Image.Image, mask: Image.Image) -> tuple[float, float, float]:
    """The mean color of what is drawn."""
    covered = np.asarray(mask, dtype=np.float32)[..., None] / 255
    ink = (np.asarray(image, dtype=np.float32) - 255).sum(axis=(0, 1)) / max(covered.sum(), 1) + 255
    return tuple(ink)

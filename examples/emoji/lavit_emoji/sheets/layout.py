# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Creates sheets: one to four drawings of various sizes and positions, half of them on a colored background."""

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


SIZES = {1: (48, 120), 2: (36, 76), 3: (32, 62), 4: (28, 58)}  # longer sides in pixels by number of drawings
WHITE_PAPER = 0.5  # share of sheets
GAP = 2  # pixels between drawings
LAYOUTS, SHRINK = 200, 0.92  # tries to place drawings before they are made smaller
FAINT = 16  # pixels of the mask below this gray level don't count when a drawing is cropped


@dataclass(frozen=True)
class SheetSettings:
    """
    Settings of sheets.

    Args:
        size (`int`, *optional*, defaults to 128): Width and height of a sheet, in pixels.
        patch_size (`int`, *optional*, defaults to 16): Width and height of a patch, in pixels.
        sizes (`Mapping[int, tuple[int, int]]`, *optional*):
            Minimum and maximum length of a drawing's longer side, for sheets with one, two, three and four drawings,
            in pixels.
        plan (`str`, *optional*): The kind of plan; random by default, see `plans.py`.
        even (`bool`, *optional*, defaults to `False`):
            Whether mixed sheets have one, two, three and four drawings in turn instead of a random number.

    Raises:
        `ValueError`: If the sheet can't be divided into patches, or drawings would not fit on it.
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
    A sheet with its contents and texts.

    Args:
        image (`PIL.Image.Image`): The image, RGB.
        coverage (`np.ndarray`): Opacity of the drawings at each pixel, `(size, size)`, from 0 to 1.
        placed (`list[Placed]`): The things and their positions, in reading order.
        paper (`tuple[int, int, int]`): The background color.
        caption (`str`): The caption, such as `a red apple and a dog`.
        questions (`list[Question]`): Questions about the sheet, with answers.
    """

    image: Image.Image
    coverage: np.ndarray
    placed: list[Placed]
    paper: tuple[int, int, int]
    caption: str
    questions: list[Question]


class SheetMaker:
    """
    Creates sheets from a split of the emoji dataset. A sheet only depends on the split, the seed, the settings and its
    index.

    Args:
        drawings ([`~datasets.Dataset`]): A split from `prepare.py`, from which all drawings are taken.
        seed (`int`, *optional*, defaults to 0): Random seed.
        settings ([`SheetSettings`], *optional*): Settings of the sheets.

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
        Creates a sheet.

        Args:
            index (`int`): Index of the sheet, 0 or more.

        Returns:
            [`Sheet`]: The sheet.
        """
        if index < 0:
            raise IndexError(f"Sheets are numbered from 0, not {index}.")
        settings, chance = self.settings, random.Random(f"{self.seed}/{index}")
        number = 1 + index % 4 if settings.even else None
        plan = draw_plan(self.things, chance, settings.plan, number)
        elsewhere = draw_plan(self.things, chance, plan.name, number)  # contents that another sheet could have
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
        """A drawing and its mask, recolored if necessary, and cropped to the drawn area."""
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
    Scales drawings and places them so that they don't touch.

    Args:
        layers (`list[tuple[PIL.Image.Image, PIL.Image.Image]]`): Cropped drawings and their masks.
        settings ([`SheetSettings`]): Sizes of the sheet and the drawings.
        chance (`random.Random`): Random number generator.

    Returns:
        `tuple[list[tuple[PIL.Image.Image, PIL.Image.Image]], list[tuple[int, int, int, int]]]`: The scaled drawings
        and masks, and their boxes: left, top, right and bottom, in pixels.
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
    Pastes drawings on a background.

    Args:
        layers (`list[tuple[PIL.Image.Image, PIL.Image.Image]]`): Drawings on white and their masks.
        boxes (`list[tuple[int, int, int, int]]`): The box of each drawing.
        paper (`tuple[int, int, int]`): The background color.
        size (`int`): Width and height of the sheet, in pixels.

    Returns:
        `tuple[PIL.Image.Image, np.ndarray]`: The sheet, and the opacity of the drawings at each pixel, `(size, size)`.
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
        coverage (`np.ndarray`): Opacity of the drawings at each pixel, `(size, size)`, from 0 to 1.
        patch_size (`int`): Width and height of a patch, in pixels.

    Returns:
        `np.ndarray`: `(size // patch_size, size // patch_size)`, from 0 to 1.
    """
    side = len(coverage) // patch_size
    return coverage.reshape(side, patch_size, side, patch_size).mean(axis=(1, 3))


def distance_by_patch(drawn: np.ndarray, patch_size: int) -> np.ndarray:
    """
    The distance of each patch to the nearest drawing, in patches: 0 for patches with drawn content, 1 for adjacent
    patches (including diagonally), and 2 or more for patches farther away.

    Args:
        drawn (`np.ndarray`): Output of [`drawn_by_patch`], `(rows, columns)`. Less than one pixel counts as nothing.
        patch_size (`int`): Width and height of a patch, in pixels.

    Returns:
        `np.ndarray`: `(rows, columns)`, integers; on an empty sheet, all are `rows + columns`.
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
    """The mean color of a drawing."""
    covered = np.asarray(mask, dtype=np.float32)[..., None] / 255
    ink = (np.asarray(image, dtype=np.float32) - 255).sum(axis=(0, 1)) / max(covered.sum(), 1) + 255
    return tuple(ink)

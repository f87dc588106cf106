# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Ablation step: measures what codes mean, that is, how often drawings that share a code show the same thing, and how
often patches that share a code have the same position. Also saves an image of patches with the same code.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from PIL import Image

from lavit_emoji.measures.ablation_steps import write_figures
from lavit_hf.training.data import load_split
from lavit_hf.training.settings import load_settings
from lavit_hf.visualization import image_grid, save_image


PICTURE_NAME = "codes.png"
CELL, COLUMNS = 32, 12  # size of a patch in pixels; patches shown per code


@dataclass
class Settings:
    """Settings of the step."""

    tokens: str
    pictures: str
    output: str
    split: str = "train"
    shuffle: bool = False
    num_codes: int = 24
    seed: int = 0


def group_by_code(codes: Sequence[Sequence[int]], names: Sequence[str]) -> dict[int, list[str]]:
    """For each code, what the drawings that contain it show; each drawing counts once."""
    groups = defaultdict(list)
    for of_image, name in zip(codes, names):
        for code in set(of_image):
            groups[code].append(name)
    return groups


def places_by_code(codes: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]]) -> dict[int, list[int]]:
    """For each code, the positions of all patches that have it."""
    groups = defaultdict(list)
    for of_image, mask in zip(codes, masks):
        for code, place in zip(of_image, (place for place, kept in enumerate(mask) if kept), strict=True):
            groups[code].append(place)
    return groups


def purity(groups: Iterable[Sequence[str | int]]) -> float:
    """The share of members that belong to the most frequent class of their group, among groups of at least two. The
    groups are codes, the members drawings or patches, and the classes names, subcategories or positions."""
    shared = [Counter(group) for group in groups if len(group) > 1]
    return sum(max(group.values()) for group in shared) / sum(map(Counter.total, shared))


def shuffle(codes: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    """Randomly reassigns the codes to the images; the number of codes per image stays the same."""
    order = torch.randperm(sum(map(len, codes)), generator=torch.Generator().manual_seed(seed)).tolist()
    flat = [code for of_image in codes for code in of_image]
    shuffled = iter([flat[number] for number in order])
    return [[next(shuffled) for _ in of_image] for of_image in codes]


def draw_codes(rows: Dataset, codes: Sequence[Sequence[int]], pictures: Sequence[Image.Image], number: int):
    """An image with a row of patches for each of `number` codes that occur in many drawings."""
    found: dict[int, list[Image.Image]] = defaultdict(list)
    for image, of_image, mask in zip(pictures, codes, rows["keep_mask"]):
        side = int(len(mask) ** 0.5)
        size = image.width / side
        places = [place for place, kept in enumerate(mask) if kept]
        for code, place in dict(zip(of_image, places)).items():
            left, top = place % side * size, place // side * size
            found[code].append(image.crop((left, top, left + size, top + size)).resize((CELL, CELL)))
    most = sorted(found, key=lambda code: len(found[code]), reverse=True)
    enough = [code for code in most if len(found[code]) >= COLUMNS]
    # Not only the most frequent codes, because these represent plain colors.
    chosen = enough[:: max(1, len(enough) // number)][:number]
    return image_grid([patch for code in chosen for patch in found[code][:COLUMNS]], COLUMNS, padding=2)


def main() -> None:
    """Run the step and write its figures."""
    (settings,) = load_settings(Settings)
    rows = load_split(settings.tokens, settings.split)
    told = rows.select_columns(["name", "subcategory", "view", "row", "questions"])
    rows = rows.select([i for i, row in enumerate(told) if row["view"] == 0 and not row["questions"]])
    codes = rows["codes"][:]
    codes = shuffle(codes, settings.seed) if settings.shuffle else codes
    figures = {
        f"purity_of_{column}": purity(group_by_code(codes, rows[column][:]).values())
        for column in ("name", "subcategory")
    }
    figures["purity_of_place"] = purity(places_by_code(codes, rows["keep_mask"][:]).values())
    write_figures(figures | {"codes": len({code for of_image in codes for code in of_image})}, settings.output)
    drawings = load_split(settings.pictures, settings.split)
    pictures = [drawings[row]["image"].convert("RGB") for row in rows["row"][:]]
    picture = draw_codes(rows, codes, pictures, settings.num_codes)
    save_image(picture, Path(settings.output) / PICTURE_NAME)


if __name__ == "__main__":
    main()

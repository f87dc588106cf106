# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Decides which drawings are held out, by a hash of the seed and the drawing's name. A drawing is never held out if a
near-duplicate (twin) of it is trained on. Two artists are held out entirely: one for choosing settings, and the unseen
artist.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .packages import Style


SPLITS = ("train", "validation", "test_drawings", "test_concepts", "validation_artist", "stranger")
ARTIST_SPLITS = {"choose": "validation_artist", "stranger": "stranger"}  # by a style's use
THUMBNAIL = 16  # pixels; small enough to ignore redrawn edges, large enough to distinguish two smileys
SAME_CONCEPT_DISTANCE = 16.0  # root mean square in gray levels; chosen by eye: pairs below it only differ in shading
OTHER_CONCEPT_DISTANCE = 8.0  # for different concepts; above it, pairs can be smileys that only differ in their mouths
BLOCK = 512  # number of images to compare with all others at a time


@dataclass(frozen=True)
class Sizes:
    """
    Sizes of the held-out splits.

    Args:
        drawings (`int`): Number of concepts with one drawing in `test_drawings`.
        concepts (`int`): Number of concepts with all drawings in `test_concepts`.
        validation (`int`): Number of concepts with one drawing in `validation`.
    """

    drawings: int = 300
    concepts: int = 50
    validation: int = 100


def find_twins(images: Sequence[Image.Image], concepts: Sequence[str]) -> list[set[int]]:
    """
    Finds near-duplicates (twins): the same drawing under two names (`astronaut` and `man astronaut`), or one that was
    derived from another (Fluent flat from Fluent 3D). Holding out one while training on the other would show nothing.

    Args:
        images (`Sequence[PIL.Image.Image]`): The images, all RGB.
        concepts (`Sequence[str]`): The concept of each image.

    Returns:
        `list[set[int]]`: For each image, the indices of its twins.
    """
    thumbnails = np.stack([_thumbnail(image) for image in images])
    norms, names = (thumbnails**2).sum(axis=1), np.array(concepts)
    twins = []
    for start in range(0, len(thumbnails), BLOCK):
        block = slice(start, start + BLOCK)
        squares = norms[block, None] + norms - 2 * thumbnails[block] @ thumbnails.T
        limits = np.where(names[block, None] == names, SAME_CONCEPT_DISTANCE, OTHER_CONCEPT_DISTANCE)
        close = squares <= limits**2 * thumbnails.shape[1]
        twins += [set(np.flatnonzero(row).tolist()) - {start + offset} for offset, row in enumerate(close)]
    return twins


def split_drawings(
    drawings: Sequence[tuple[str, str]],
    twins: Sequence[set[int]],
    styles: Mapping[str, Style],
    sizes: Sizes,
    seed: int,
) -> list[str | None]:
    """
    Assigns a split to each drawing of all artists, depending on the use of its style.

    [`assign_splits`] splits the drawings of the styles with the use `"train"`, independently of all others. A drawing
    with the use `"train_only"` is trained on, unless its concept is held out entirely, it is a twin of a held-out
    drawing, or it is derived from one (`derived_from`). The drawings with the uses `"choose"` and `"stranger"` have
    their own splits, without twins of training drawings; the former also without the concepts that are held out
    entirely.

    Args:
        drawings (`Sequence[tuple[str, str]]`): Codepoints and style of each drawing.
        twins (`Sequence[set[int]]`): Output of [`find_twins`] for these drawings.
        styles (`Mapping[str, Style]`): The styles by name.
        sizes (`Sizes`): Sizes of the held-out splits.
        seed (`int`): Random seed.

    Returns:
        `list[str | None]`: One of [`SPLITS`] for each drawing, or `None` for drawings to leave out.

    Raises:
        `ValueError`: If too few concepts can be held out.
    """
    uses = [styles[style].use for _, style in drawings]
    splits = _share_out(drawings, twins, uses, sizes, seed)
    held_out = {index for index, split in enumerate(splits) if split not in (None, "train")}
    held_out_drawings = {drawings[index] for index in held_out}
    held_out_concepts = {drawings[index][0] for index in held_out if splits[index] == "test_concepts"}
    for index, (codepoints, style) in enumerate(drawings):
        repeats = any((codepoints, original) in held_out_drawings for original in styles[style].derived_from)
        gives_away = repeats or twins[index] & held_out or codepoints in held_out_concepts
        if uses[index] == "train_only" and not gives_away:
            splits[index] = "train"
    trained = {index for index, split in enumerate(splits) if split == "train"}
    for index, (codepoints, _) in enumerate(drawings):
        split = ARTIST_SPLITS.get(uses[index])
        if split == "validation_artist" and codepoints in held_out_concepts:
            continue  # settings must not be chosen on concepts of a test split
        if split and not twins[index] & trained:
            splits[index] = split
    return splits


def _share_out(
    drawings: Sequence[tuple[str, str]], twins: Sequence[set[int]], uses: Sequence[str], sizes: Sizes, seed: int
) -> list[str | None]:
    """Splits of the drawings with the use `"train"`, as if there were no others."""
    shared = [index for index, use in enumerate(uses) if use == "train"]
    place = {index: position for position, index in enumerate(shared)}
    shared_twins = [{place[twin] for twin in twins[index] if twin in place} for index in shared]
    splits: list[str | None] = [None] * len(drawings)
    assigned = assign_splits([drawings[index] for index in shared], shared_twins, sizes, seed)
    for index, split in zip(shared, assigned, strict=True):
        splits[index] = split
    return splits


def assign_splits(
    drawings: Sequence[tuple[str, str]], twins: Sequence[set[int]], sizes: Sizes, seed: int
) -> list[str]:
    """
    Assigns a split to each drawing.

    Concepts and drawings are tried in the order of a hash of the seed and their names, so the order doesn't depend on
    what else is in the dataset. A concept can be held out entirely if at least two artists drew it, and none of its
    drawings has a twin of another concept. A single drawing can be held out if at least two others of its concept are
    trained on, and it has no twin at all. Each concept is held out in one way only.

    Args:
        drawings (`Sequence[tuple[str, str]]`): Codepoints and style of each drawing.
        twins (`Sequence[set[int]]`): Output of [`find_twins`] for these drawings.
        sizes (`Sizes`): Sizes of the held-out splits.
        seed (`int`): Random seed.

    Returns:
        `list[str]`: One of [`SPLITS`] for each drawing.

    Raises:
        `ValueError`: If too few concepts can be held out.
    """
    members = defaultdict(list)
    for index, (codepoints, _) in enumerate(drawings):
        members[codepoints].append(index)
    splits = ["train"] * len(drawings)

    apart = [key for key, group in members.items() if len(group) >= 2 and _stands_apart(group, twins)]
    whole = _first(apart, sizes.concepts, seed, "concepts")
    for index in (index for key in whole for index in members[key]):
        splits[index] = "test_concepts"

    single = {}  # for each concept, the drawing that would be held out
    for key in members.keys() - set(whole):
        free = [index for index in members[key] if not twins[index]]
        if free and len(members[key]) >= 3:
            single[key] = min(free, key=lambda index: _rank(seed, *drawings[index]))
    chosen = _first(single, sizes.drawings + sizes.validation, seed, "drawings")
    for position, key in enumerate(chosen):
        splits[single[key]] = "test_drawings" if position < sizes.drawings else "validation"
    return splits


def _thumbnail(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float32).ravel()


def _stands_apart(group: list[int], twins: Sequence[set[int]]) -> bool:
    return all(twins[index] <= set(group) for index in group)


def _first(concepts: Iterable[str], count: int, seed: int, what: str) -> list[str]:
    ranked = sorted(concepts, key=lambda key: _rank(seed, key))
    if len(ranked) < count:
        raise ValueError(f"Only {len(ranked)} concepts can have {what} held out, not {count}. Ask for fewer.")
    return ranked[:count]


def _rank(seed: int, *names: str) -> str:
    return hashlib.sha256("/".join((str(seed), *names)).encode()).hexdigest()

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Which drawings are held out: by a hash of seed and drawing, and never one whose twin would be trained on. Two artists
are held out whole: one to choose settings by, and a stranger.
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
THUMBNAIL = 16  # pixels; small enough to forgive an edge drawn anew, large enough to tell two smileys apart
SAME_CONCEPT_DISTANCE = 16.0  # grey levels, root mean square; from looking at pairs: up to here shading alone differs
OTHER_CONCEPT_DISTANCE = 8.0  # the same; beyond it two smileys may differ by their mouths only
BLOCK = 512  # images compared with all others at a time


@dataclass(frozen=True)
class Sizes:
    """
    How much is held out.

    Args:
        drawings (`int`): Concepts of which one drawing goes to `test_drawings`.
        concepts (`int`): Concepts of which all drawings go to `test_concepts`.
        validation (`int`): Concepts of which one drawing goes to `validation`.
    """

    drawings: int = 300
    concepts: int = 50
    validation: int = 100


def find_twins(images: Sequence[Image.Image], concepts: Sequence[str]) -> list[set[int]]:
    """
    Finds images that are as good as the same, so that holding out the one while training on the other shows nothing:
    the same drawing under two names (`astronaut` and `man astronaut`), or one that an artist took over (Fluent flat
    from Fluent 3D).

    Args:
        images (`Sequence[PIL.Image.Image]`): The images, all RGB.
        concepts (`Sequence[str]`): What each of them shows.

    Returns:
        `list[set[int]]`: For each image the others that are its twins.
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
    Assigns a split to every drawing of all artists, by the use of its style.

    [`assign_splits`] shares out the drawings of the styles of use `"train"`; the others do not change what it does. A
    drawing of use `"train_only"` is trained on unless that would give a held-out drawing away: its concept is held out
    whole, it is a twin of a held-out drawing, or it repeats one (`derived_from`). The drawings of use `"choose"` and
    `"stranger"` make up splits of their own, without those that have a twin in training; the former also without the
    concepts that are held out whole.

    Args:
        drawings (`Sequence[tuple[str, str]]`): Codepoints and style of each drawing.
        twins (`Sequence[set[int]]`): What [`find_twins`] found among them.
        styles (`Mapping[str, Style]`): The styles by name.
        sizes (`Sizes`): How much to hold out.
        seed (`int`): The seed.

    Returns:
        `list[str | None]`: One of [`SPLITS`] for each drawing, or `None` for one to leave out.

    Raises:
        `ValueError`: If there are too few concepts that can be held out.
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
            continue  # settings must not be chosen by a test split's concepts
        if split and not twins[index] & trained:
            splits[index] = split
    return splits


def _share_out(
    drawings: Sequence[tuple[str, str]], twins: Sequence[set[int]], uses: Sequence[str], sizes: Sizes, seed: int
) -> list[str | None]:
    """Splits of the drawings of use `"train"`, as if there were no others."""
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
    Assigns a split to every drawing.

    The order in which concepts and drawings are tried is that of a hash of the seed and their names, so that it does
    not depend on what else is in the set. A concept can be held out whole if at least two artists drew it and no
    drawing of it has a twin elsewhere; a single drawing, if at least two others of its concept are trained on and it
    has no twin at all. A concept is held out in one way only.

    Args:
        drawings (`Sequence[tuple[str, str]]`): Codepoints and style of each drawing.
        twins (`Sequence[set[int]]`): What [`find_twins`] found among them.
        sizes (`Sizes`): How much to hold out.
        seed (`int`): The seed.

    Returns:
        `list[str]`: One of [`SPLITS`] for each drawing.

    Raises:
        `ValueError`: If there are too few concepts that can be held out.
    """
    members = defaultdict(list)
    for index, (codepoints, _) in enumerate(drawings):
        members[codepoints].append(index)
    splits = ["train"] * len(drawings)

    apart = [key for key, group in members.items() if len(group) >= 2 and _stands_apart(group, twins)]
    whole = _first(apart, sizes.concepts, seed, "concepts")
    for index in (index for key in whole for index in members[key]):
        splits[index] = "test_concepts"

    single = {}  # concept -> the drawing of it that would be held out
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

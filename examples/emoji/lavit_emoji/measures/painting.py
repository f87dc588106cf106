# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Evaluates images that a LaVIT generates from names and drawings: figures from a judge, and contact sheets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from lavit_hf import LaVITPipeline
from lavit_hf.fast_dtypes import fast_autocast
from lavit_hf.visualization import image_grid, save_image

from .judge import Judge, at_painted_size, best_ranks, score_ranks
from .looking import Looker, batches, name_of
from .reading import Drawings, two_different


BATCH_SIZE = 50
SHOWN, COLUMNS, CELL = 48, 8, 128  # images per contact sheet and per row, and their width in pixels
PAIRS = 100  # number of captions of sheets with two things to generate images from


def make_judge(looker: Looker, rows: Dataset, painted_size: int) -> Judge:
    """
    Creates a judge from drawings in their original resolution and in that of generated images.

    Args:
        looker ([`Looker`]): Computes features of images.
        rows (`~datasets.Dataset`): The training drawings.
        painted_size (`int`): Side of a generated image, in pixels.

    Returns:
        [`Judge`]: The judge.
    """
    names, known = list(rows["name"]), name_of("train", rows)
    looks = [
        looker.remember(known, lambda: rows["image"]),
        looker.remember(f"{known}-{painted_size}", lambda: at_painted_size(rows["image"], painted_size)),
    ]
    return Judge(looker, torch.cat(looks), [*names, *names])


class Painter:
    """
    Generates images, with bf16 autocast if that is fast on the device. The same seed gives the same images.

    Args:
        pipeline ([`LaVITPipeline`]): The pipeline.
        seed (`int`): Random seed.
    """

    def __init__(self, pipeline: LaVITPipeline, seed: int):
        self.pipeline, self.seed = pipeline, seed

    def draw(self, names: Sequence[str]) -> list[Image.Image]:
        """Generates an image from each text."""
        return self._paint(self.pipeline, names)

    def reconstruct(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Reconstructs each image from its tokens."""
        return self._paint(self.pipeline.reconstruct, images)

    def _paint(self, call, wishes: Sequence) -> list[Image.Image]:
        pictures = []
        for number, batch in enumerate(batches(wishes, BATCH_SIZE)):
            generator = torch.Generator().manual_seed(self.seed + number)
            with fast_autocast(self.pipeline.device):
                pictures += call(list(batch), generator=generator).images
        return pictures


def picture_figures(painter: Painter, judge: Judge, drawings: Drawings, everyday: set[str], folder: Path) -> dict:
    """
    How often a judge recognizes generated and reconstructed images of single drawings. Saves contact sheets.

    Args:
        painter ([`Painter`]): Generates images.
        judge ([`Judge`]): The judge.
        drawings ([`Drawings`]): Held-out drawings.
        everyday (`set[str]`): Names of the everyday concepts; for their drawings, the judge chooses only among these.
        folder (`Path`): Folder for the contact sheets.

    Returns:
        `dict[str, dict]`: Figures for the `drawings` themselves, `text_to_picture` and `reconstruction`.
    """
    shown = {
        "drawings": drawings.images,
        "text_to_picture": painter.draw(drawings.names),
        "reconstruction": painter.reconstruct(drawings.images),
    }
    _save_contact_sheets(folder, drawings, shown)
    return {name: _judged(judge, pictures, drawings, everyday) for name, pictures in shown.items()}


def _judged(judge: Judge, pictures: Sequence[Image.Image], drawings: Drawings, everyday: set[str]) -> dict:
    looks = judge.look(pictures)
    return {
        group: score_ranks(
            judge.rank(looks[numbers], [drawings.names[i] for i in numbers], everyday if group == "everyday" else None)
        )
        for group, numbers in drawings.groups().items()
    }


def pair_figures(painter: Painter, judge: Judge, sheets: Dataset, folder: Path) -> dict:
    """
    How often images generated from captions of sheets with two things show both. The judge looks at windows of an
    image. Its accuracy on the original sheets is the upper limit; how often it finds the things of another sheet is
    the chance level.

    Args:
        painter ([`Painter`]): Generates images.
        judge ([`Judge`]): The judge.
        sheets ([`~datasets.Dataset`]): Rows from `prepare_sheets.py`.
        folder (`Path`): Folder for the contact sheet.

    Returns:
        `dict[str, dict]`: For `painted`, `sheets` and `chance`, the share of images in which both things were found,
        and the share of things that were found. A thing counts as found if it is among the first five in a window.
    """
    rows = sheets.select(two_different(list(sheets["nouns"]))[:PAIRS])
    captions, names = list(rows["caption"]), list(rows["names"])
    painted = painter.draw(captions)
    save_image(image_grid(_cells(painted), COLUMNS, captions[:SHOWN]), folder / "sheets_of_two.png")
    others = names[1:] + names[:1]
    copies = list(at_painted_size(rows["image"], painter.pipeline.picture_size))
    found = {"painted": (painted, names), "sheets": (copies, names), "chance": (painted, others)}
    return {name: _score_pairs(best_ranks(judge, *shown)) for name, shown in found.items()}


def _score_pairs(ranks: torch.Tensor) -> dict[str, float | int]:
    found = ranks < 5
    return {
        "number": len(found),
        "both": found.all(dim=1).float().mean().item(),
        "each": found.float().mean().item(),
    }


def _save_contact_sheets(folder: Path, drawings: Drawings, shown: dict[str, Sequence[Image.Image]]) -> None:
    """Saves drawings next to their reconstructions, and images generated from names."""
    chosen = np.random.default_rng(0).permutation(len(drawings.names))[:SHOWN]
    pairs = [pictures[i] for i in chosen for pictures in (drawings.images, shown["reconstruction"])]
    save_image(image_grid(_cells(pairs, 2 * SHOWN), COLUMNS), folder / "reconstructions.png")
    drawn = [shown["text_to_picture"][i] for i in chosen]
    names = [drawings.names[i] for i in chosen]
    save_image(image_grid(_cells(drawn), COLUMNS, names), folder / "drawings.png")


def _cells(pictures: Sequence[Image.Image], number: int = SHOWN) -> list[Image.Image]:
    return [picture.resize((CELL, CELL), Image.Resampling.BICUBIC) for picture in pictures[:number]]

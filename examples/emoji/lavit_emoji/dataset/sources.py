# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The images that are trained on: several views of each drawing, then sheets of drawings, at most as many, then a few
without anything, which a LaVIT would else take for whatever it knows.
"""

import random
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, load_from_disk
from PIL import Image

from .everyday import spread_concepts
from .views import views


TEXT_COLUMNS = ("name", "keywords", "category", "subcategory", "style")
SHEETS_PER_BLANK = 100
BLANK = {"name": "blank image", "keywords": [], "category": "", "subcategory": "", "style": "sheet"}
BLANK_ANSWERS = {"What is this?": BLANK["name"], "How many drawings are there?": "0"}
BLANK_SIZE = (128, 128)  # pixels
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


class Pictures:
    """
    Images by rows: first those of the drawings, of which each has several views, then those of the sheets, and for
    every hundred sheets one of a single color.

    Args:
        drawings ([`~datasets.Dataset`]): A split of what `prepare.py` wrote.
        num_views (`int`): Views of each drawing; the first is the drawing as it is.
        sheets ([`~datasets.Dataset`], *optional*):
            A split of what `prepare_sheets.py` wrote. There are at most as many as views of drawings, so that single
            drawings remain half of all.
    """

    def __init__(self, drawings: Dataset, num_views: int, sheets: Dataset | None = None):
        self.drawings, self.num_views = drawings, num_views
        self.sheets = sheets.select(range(min(len(sheets), num_views * len(drawings)))) if sheets is not None else []

    @classmethod
    def load(
        cls, data: Path, split: str, num_views: int, sheets: Path | None = None, concepts: int | None = None
    ) -> "Pictures":
        """
        Loads a split from what `prepare.py` and, if given, `prepare_sheets.py` wrote. With `concepts`, of the drawings
        only those of so many everyday concepts.

        Raises:
            `ValueError`: If either has no such split, or there are not as many concepts.
        """
        drawings = _split(data, split)
        if concepts is not None:
            chosen = spread_concepts(concepts)
            drawings = drawings.select([i for i, concept in enumerate(drawings["concept"]) if concept in chosen])
        return cls(drawings, num_views, _split(sheets, split) if sheets else None)

    def __len__(self) -> int:
        """The number of rows, where all views of a drawing are one."""
        return len(self.drawings) + len(self.sheets) + len(self.sheets) // SHEETS_PER_BLANK

    def __call__(self, rows: range) -> Iterator[dict]:
        """
        Gives the images of rows, ordered by row and view.

        Args:
            rows (`range`): The rows.

        Returns:
            `Iterator[dict]`: `row`, `view`, `image` and what texts are made from: a sheet has its caption for a name,
            and `questions` with `answers`, which a drawing has not.
        """
        for row in rows:
            if row < len(self.drawings):
                drawing = self.drawings[row]
                told = {name: drawing[name] for name in TEXT_COLUMNS}
                for view, image in enumerate(views(drawing, self.num_views, seed=row)):
                    yield {"row": row, "view": view, "image": image, **told, "questions": [], "answers": []}
            elif row < len(self.drawings) + len(self.sheets):
                yield {"row": row, "view": 0, **self._sheet(row - len(self.drawings))}
            else:
                yield {"row": row, "view": 0, **_blank(seed=row)}

    def _sheet(self, index: int) -> dict:
        sheet = self.sheets[index]
        told = {"name": sheet["caption"], "keywords": [], "category": "", "subcategory": "", "style": "sheet"}
        return {"image": sheet["image"], **told, "questions": sheet["questions"], "answers": sheet["answers"]}


def _blank(seed: int) -> dict:
    chance = random.Random(seed)
    color = chance.choice([WHITE, BLACK, *(tuple(chance.randrange(256) for _ in WHITE) for _ in range(4))])
    answered = {"questions": list(BLANK_ANSWERS), "answers": list(BLANK_ANSWERS.values())}
    return {"image": Image.new("RGB", BLANK_SIZE, color), **BLANK, **answered}


def _split(path: Path, split: str) -> Dataset:
    dataset = load_from_disk(path)
    if split not in dataset:
        raise ValueError(f"{path} has no split {split!r}, only {', '.join(dataset)}.")
    return dataset[split]

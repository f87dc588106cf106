# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The training images: several views of each drawing, then at most the same number of sheets, then a few blank images,
which a LaVIT would otherwise describe as something that it knows.
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
    Images by row: first the drawings, each with several views, then the sheets, then one blank image of a single color
    per hundred sheets.

    Args:
        drawings ([`~datasets.Dataset`]): A split from `prepare.py`.
        num_views (`int`): Number of views per drawing; the first is the drawing itself.
        sheets ([`~datasets.Dataset`], *optional*):
            A split from `prepare_sheets.py`. At most as many sheets are used as there are views of drawings, so that
            about half of all images show single drawings.
    """

    def __init__(self, drawings: Dataset, num_views: int, sheets: Dataset | None = None):
        self.drawings, self.num_views = drawings, num_views
        self.sheets = sheets.select(range(min(len(sheets), num_views * len(drawings)))) if sheets is not None else []

    @classmethod
    def load(
        cls, data: Path, split: str, num_views: int, sheets: Path | None = None, concepts: int | None = None
    ) -> "Pictures":
        """
        Loads a split from the output of `prepare.py` and, if given, of `prepare_sheets.py`. `concepts` restricts the
        drawings to this number of everyday concepts.

        Raises:
            `ValueError`: If there is no such split, or there aren't that many concepts.
        """
        drawings = _split(data, split)
        if concepts is not None:
            chosen = spread_concepts(concepts)
            drawings = drawings.select([i for i, concept in enumerate(drawings["concept"]) if concept in chosen])
        return cls(drawings, num_views, _split(sheets, split) if sheets else None)

    def __len__(self) -> int:
        """The number of rows; all views of a drawing share one row."""
        return len(self.drawings) + len(self.sheets) + len(self.sheets) // SHEETS_PER_BLANK

    def __call__(self, rows: range) -> Iterator[dict]:
        """
        Yields the images of rows, ordered by row and view.

        Args:
            rows (`range`): The rows.

        Returns:
            `Iterator[dict]`: `row`, `view`, `image`, and the columns that texts are created from. The `name` of a
            sheet is its caption; only sheets and blank images have `questions` and `answers`.
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

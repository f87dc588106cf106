# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Evaluates captions and answers of a LaVIT for held-out drawings and sheets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from PIL import Image

from lavit_hf import LaVITForCausalLM, LaVITProcessor
from lavit_hf.tasks.reading import CAPTION, Task, answer_to, generate_texts

from ..dataset.everyday import is_everyday
from .guessing import score_guesses
from .looking import batches
from .scoring import score_answers, score_names, score_pairs


CAPTION_SETTINGS = {"num_beams": 1, "max_new_tokens": 24}
SHEET_SETTINGS = {"num_beams": 1, "max_new_tokens": 64}
QUESTION_COLUMNS = ["kinds", "questions", "answers"]


@dataclass(frozen=True)
class Drawings:
    """
    Drawings with their names and keywords from CLDR.

    Args:
        images (`list[PIL.Image.Image]`): The drawings.
        names (`list[str]`): Their names.
        keywords (`list[list[str]]`): Their keywords.
        everyday (`list[bool]`): Whether each shows an everyday concept.
    """

    images: list[Image.Image]
    names: list[str]
    keywords: list[list[str]]
    everyday: list[bool]

    @classmethod
    def of(cls, rows: Dataset) -> "Drawings":
        """Creates them from rows from `prepare.py`."""
        images = [image.convert("RGB") for image in rows["image"]]
        everyday = [is_everyday({"concept": concept}) for concept in rows["concept"]]
        return cls(images, list(rows["name"]), list(rows["keywords"]), everyday)

    def groups(self) -> dict[str, list[int]]:
        """The indices of all drawings and, if there are any, of those that show everyday concepts."""
        groups = {"all": list(range(len(self.names)))}
        everyday = [number for number in groups["all"] if self.everyday[number]]
        return groups | ({"everyday": everyday} if everyday else {})


class Reader:
    """
    Captions images and answers questions about them.

    Args:
        model ([`LaVITForCausalLM`]): The model.
        processor ([`LaVITProcessor`]): Its processor.
        batch_size (`int`, *optional*, defaults to 32): Number of images per batch.
    """

    def __init__(self, model: LaVITForCausalLM, processor: LaVITProcessor, batch_size: int = 32):
        self.model, self.processor, self.batch_size = model, processor, batch_size

    def caption(self, images: Sequence[Image.Image], **settings) -> list[str]:
        """A caption for each image."""
        return self._write(images, [CAPTION] * len(images), CAPTION_SETTINGS | settings)

    def answer(self, images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        """Answers to one question about each image, like those of `lavit ask`."""
        return self._write(images, [answer_to(question) for question in questions])

    def _write(self, images: Sequence[Image.Image], tasks: Sequence[Task], settings: dict | None = None) -> list[str]:
        # Prompts of similar length are batched together, to reduce padding.
        order = sorted(range(len(tasks)), key=lambda number: len(tasks[number].make_prompt(self.processor)))
        generator, texts = torch.Generator(self.model.device).manual_seed(0), {}
        for batch in batches(order, self.batch_size):
            inputs = [tasks[number].prepare(self.processor, images[number]) for number in batch]
            wishes = {"do_sample": False, **(settings or {})}
            said = generate_texts(tasks[batch[0]], inputs, self.processor, self.model, generator, wishes)
            texts |= zip(batch, said, strict=True)
        return [texts[number] for number in range(len(tasks))]


def name_figures(said: Sequence[str], drawings: Drawings) -> dict[str, dict]:
    """The figures from [`~scoring.score_names`] for all drawings and for the everyday ones."""
    return {
        group: score_names(*([column[i] for i in numbers] for column in (said, drawings.names, drawings.keywords)))
        for group, numbers in drawings.groups().items()
    }


def sheet_figures(reader: Reader, sheets: Dataset, train: Dataset) -> dict[str, dict]:
    """
    Scores captions of sheets with two different drawings, and answers to all questions.

    Args:
        reader ([`Reader`]): Writes captions and answers.
        sheets ([`~datasets.Dataset`]): Rows from `prepare_sheets.py`.
        train ([`~datasets.Dataset`]): Rows of the train split, to guess answers from the words of questions.

    Returns:
        `dict`: `captions` and `questions`. The latter contain the share of `right` answers, and for comparison that of
        guesses (`by_words`, `most_frequent`).
    """
    images, told = [image.convert("RGB") for image in sheets["image"]], sheets.remove_columns("image")
    guesses = score_guesses(train.select_columns(QUESTION_COLUMNS), told)
    answers = _answer_all(reader, images, told)
    return {
        "captions": _pair_figures(reader, images, told),
        "questions": {name: {**guesses.get(name, {}), **figures} for name, figures in answers.items()},
    }


def _pair_figures(reader: Reader, images: Sequence[Image.Image], sheets: Dataset) -> dict:
    nouns = list(sheets["nouns"])
    pairs = two_different(nouns)
    captions = reader.caption([images[number] for number in pairs], **SHEET_SETTINGS)
    exact = score_names(captions, [sheets[number]["caption"] for number in pairs], [[]] * len(pairs))["exact"]
    return score_pairs(captions, [nouns[number] for number in pairs]) | {"exact": exact}


def two_different(nouns: Sequence[Sequence[str]]) -> list[int]:
    """The indices of the sheets with exactly two drawings that have different names."""
    return [number for number, pair in enumerate(nouns) if len(pair) == 2 and len(set(pair)) == 2]


def _answer_all(reader: Reader, images: Sequence[Image.Image], sheets: Dataset) -> dict[str, dict]:
    asked = [
        (image, *question)
        for image, row in zip(images, sheets.select_columns(QUESTION_COLUMNS))
        for question in zip(*(row[column] for column in QUESTION_COLUMNS))
    ]
    shown, kinds, questions, answers = zip(*asked)
    return score_answers(kinds, questions, answers, reader.answer(shown, questions))


def read_photographs(reader: Reader, folder: Path) -> Mapping[str, str]:
    """Captions of photographs, which the model wasn't trained on; these are not scored."""
    paths = sorted(folder.glob("*.jpg"))
    captions = reader.caption([Image.open(path).convert("RGB") for path in paths])
    return {path.stem: caption for path, caption in zip(paths, captions)}

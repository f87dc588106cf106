# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reads samples from folders of the `datasets` library, with an image and captions or questions in each row."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parquet_folders import has_parquet
from ..tasks.failures import Failure
from .requirements import check_datasets
from .samples import Sample, Samples


if TYPE_CHECKING:
    from datasets import Dataset
    from PIL import Image

IMAGE = "image"
ROW = "row "  # name of images, followed by the row number
ID_COLUMNS = ("question_id", "image_id", "id")
CAPTION_COLUMNS = ("captions", "caption", "text")
QUESTION_COLUMNS, ANSWER_COLUMNS = ("questions", "question"), ("answers", "answer")
KIND_COLUMNS = ("kinds", "kind", "answer_type")
CAPTION_KIND_COLUMNS = ("kind", "domain")
DATASET_FILES = ("dataset_dict.json", "dataset_info.json", "metadata.jsonl", "metadata.csv")


def is_dataset(folder: Path) -> bool:
    """Whether `datasets` can read a folder: saved to disk, parquet files, or images with metadata."""
    places = [folder, *(path for path in folder.iterdir() if path.is_dir())]
    return any((place / name).is_file() for place in places for name in DATASET_FILES) or has_parquet(folder)


def read_caption_rows(dataset: "Dataset", column: str | None) -> Samples:
    """
    Reads images with captions.

    Args:
        dataset (`~datasets.Dataset`):
            The rows. A caption is a text or a list of texts.
        column (`str`, *optional*):
            Column of the captions. Defaults to the first column found of `CAPTION_COLUMNS`.
    """
    column = _find(dataset, (column,) if column else CAPTION_COLUMNS, "captions")
    kind = _find_any(dataset, CAPTION_KIND_COLUMNS)

    def make_samples(id: str, picture: str, row: dict[str, Any]) -> Iterator[Sample]:
        yield Sample(id, picture, references=_as_texts(row[column]), kind=row.get(kind))

    return _samples(dataset, [column, *filter(None, [kind])], make_samples)


def read_prompt_rows(dataset: "Dataset", column: str | None) -> Samples:
    """Reads prompts, which are the first captions of the rows, with the images to compare with."""
    samples = read_caption_rows(dataset, column)
    prompts = [
        Sample(str(number), row.picture, text=next(iter(row.references), ""))
        for number, row in enumerate(samples.rows)
    ]
    return Samples(prompts, samples.read, samples.read_bytes)


def read_question_rows(dataset: "Dataset", column: str | None) -> Samples:
    """
    Reads images with a question and the annotators' answers, or with several questions and one answer each.

    Args:
        dataset (`~datasets.Dataset`):
            The rows.
        column (`str`, *optional*):
            Column of the questions. Defaults to the first column found of `QUESTION_COLUMNS`.
    """
    asked = _find(dataset, (column,) if column else QUESTION_COLUMNS, "questions")
    answered = _find(dataset, ANSWER_COLUMNS, "answers")
    kind = _find_any(dataset, KIND_COLUMNS)

    def make_samples(id: str, picture: str, row: dict[str, Any]) -> Iterator[Sample]:
        questions, answers, kinds = row[asked], row[answered], row.get(kind)
        if isinstance(questions, str):
            yield Sample(id, picture, questions, _as_texts(answers), kinds)
            return
        if len(questions) != len(answers):
            raise Failure(f"{picture} has {len(questions)} questions, but {len(answers)} answers.")
        for place, (question, answer) in enumerate(zip(questions, answers)):
            its_kind = kinds[place] if isinstance(kinds, list) else kinds
            yield Sample(f"{id}-{place}", picture, question, _as_texts(answer), its_kind)

    return _samples(dataset, [asked, answered, *filter(None, [kind])], make_samples)


def load_rows(folder: Path, split: str) -> "Dataset":
    """Loads a split of the folder, with images decoded only when they are read."""
    check_datasets()
    from datasets import Image

    from ..training.data import load_split

    dataset = load_split(str(folder), split)
    if IMAGE not in dataset.column_names:
        raise Failure(f"{folder} has no column {IMAGE!r}, only {', '.join(dataset.column_names)}.")
    return dataset.cast_column(IMAGE, Image(decode=False))


def _samples(dataset: "Dataset", columns: list[str], make_samples: Any) -> Samples:
    rows = [
        sample
        for number, (id, row) in enumerate(zip(_find_ids(dataset), dataset.select_columns(columns)))
        for sample in make_samples(id, f"{ROW}{number}", row)
    ]
    pictures = dataset.select_columns([IMAGE])

    def read_bytes(picture: str) -> bytes:
        from ..training import encoded_images

        return encoded_images.read_bytes(pictures[int(picture.removeprefix(ROW))][IMAGE])

    def read(picture: str) -> "Image.Image":
        from ..lavit.image_loading import load_image

        try:
            return load_image(read_bytes(picture))
        except OSError as error:
            raise ValueError(str(error)) from error

    return Samples(rows, read, read_bytes)


def _find_ids(dataset: "Dataset") -> list[str]:
    """Returns the ids of the rows, or their numbers if they have no unique ids."""
    column = _find_any(dataset, ID_COLUMNS)
    ids = [] if column is None else [str(id) for id in dataset[column]]
    return ids if len(set(ids)) == len(dataset) else [str(number) for number in range(len(dataset))]


def _find(dataset: "Dataset", names: tuple[str, ...], what: str) -> str:
    found = _find_any(dataset, names)
    if found is None:
        raise Failure(
            f"there is no column {' or '.join(map(repr, names))} with {what}, only "
            f"{', '.join(dataset.column_names)}. Choose one with --column."
        )
    return found


def _find_any(dataset: "Dataset", names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in dataset.column_names), None)


def _as_texts(value: Any) -> tuple[str, ...]:
    """Reads texts from a text, a list of texts, or a list of objects with an answer, as in VQA."""
    values = value if isinstance(value, list) else [value]
    if unknown := [entry for entry in values if isinstance(entry, dict) and "answer" not in entry]:
        raise Failure(
            f"a text, or an object with an `answer`, must be given as a caption or answer, not {unknown[0]!r}."
        )
    texts = (entry["answer"] if isinstance(entry, dict) else entry for entry in values)
    return tuple(str(text) for text in texts if text is not None)

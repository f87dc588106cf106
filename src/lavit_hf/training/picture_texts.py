# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Images with captions, or with questions and answers, such as from a user's own folder."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, Image

from ..lavit.processing_lavit import LaVITProcessor
from .data import load_split, skip_broken_images
from .errors import TrainingError


logger = logging.getLogger(__name__)

# Text columns of each task, with examples.
TASKS = {
    "captions": {"text": "a cat on a sofa"},
    "questions": {"question": "What is on the sofa?", "answer": "a cat"},
}


def load_picture_texts(source: str, split: str, task: str, image_column: str = "image") -> Dataset:
    """
    Loads images with texts. Rows without a text and unreadable images are skipped, with a warning.

    Args:
        source (`str`):
            A folder of images with a `metadata.jsonl`, or any other source that [`load_split`] accepts.
        split (`str`):
            The split.
        task (`str`):
            `"captions"`, with the column `text`, or `"questions"`, with the columns `question` and `answer`.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of the images.

    Raises:
        TrainingError: If the task is unknown, a column is missing, or no row is left.
    """
    if task not in TASKS:
        raise TrainingError(f"task must be one of {', '.join(TASKS)}, got {task!r}.")
    dataset = load_split(source, split)
    missing = [column for column in (image_column, *TASKS[task]) if column not in dataset.column_names]
    if missing:
        line = json.dumps({"file_name": "cat.jpg", **TASKS[task]})
        raise TrainingError(
            f"{source} has no column {', '.join(missing)}, only {', '.join(dataset.column_names)}. In a folder of "
            f"images, metadata.jsonl provides the columns, with a line such as {line} for each image."
        )
    return skip_broken_images(_with_texts(dataset, task, image_column), image_column)


def make_sample(row: Mapping, task: str, processor: LaVITProcessor, image_column: str = "image") -> dict:
    """
    Creates a sample for [`LanguageCollator`] that reads the image, with the processor's prompt and the text as target.

    Args:
        row (`Mapping`):
            A row from [`load_picture_texts`].
        task (`str`):
            The task.
        processor ([`LaVITProcessor`]):
            Provides the question template.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of the images.
    """
    image = {"image": row[image_column]}
    if task == "captions":
        return {"layout": "image_text", "image": image, "prompt": "", "answer": _as_text(row["text"])}
    prompt = processor.format_question(_as_text(row["question"]))
    return {"layout": "image_text", "image": image, "prompt": prompt, "answer": f" {_as_text(row['answer'])}"}


def _with_texts(dataset: Dataset, task: str, image_column: str) -> Dataset:
    encoded = dataset.cast_column(image_column, Image(decode=False))  # only texts are checked here
    kept = encoded.filter(_has_texts, fn_kwargs={"columns": list(TASKS[task]), "image_column": image_column})
    if not len(kept):
        raise TrainingError(f"none of the {len(encoded)} rows has a text in {' and '.join(TASKS[task])}.")
    if len(kept) < len(encoded):
        logger.warning("skipped %d of %d rows, whose texts are empty", len(encoded) - len(kept), len(encoded))
    return kept


def _as_text(value: Any) -> str:
    if not isinstance(value, str | int | float | None):
        raise TrainingError(f"a text or a number must be given as a caption, question or answer, not {value!r}.")
    return "" if value is None else str(value).strip()


def _has_texts(row: Mapping, columns: list[str], image_column: str) -> bool:
    empty = [column for column in columns if not _as_text(row[column])]
    if empty:
        name = (row[image_column] or {}).get("path") or "an image without a name"
        logger.warning("skipped %s, whose %s is empty", name, " and ".join(empty))
    return not empty


__all__ = ["TASKS", "load_picture_texts", "make_sample"]

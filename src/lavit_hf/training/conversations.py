# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Conversations about images, in the format of LLaVA's data.

    {"image": "cat.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWho is it?"}, {"from": "gpt", "value": "a cat"}]}

A row may have several images, or none. Without `<image>` marks, its images precede the first question. Rows with
`messages` of `role` and `content` are supported as well.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Image, List
from PIL import Image as PilImage
from torch.utils.data import Dataset as TorchDataset

from .data import load_split
from .encoded_images import read_image
from .errors import TrainingError


logger = logging.getLogger(__name__)

IMAGE_MARK = "<image>"
TURNS_COLUMNS = ("conversations", "messages")
IMAGE_COLUMNS = ("images", "file_name")  # besides the requested one
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
EXAMPLE = '{"image": "cat.jpg", "conversations": [{"from": "human", "value": "<image>\\nWho is it?"}, ' + (
    '{"from": "gpt", "value": "a cat"}]}'
)


class Conversations(TorchDataset):
    """
    A dataset of conversations. Each item contains messages for [`~LaVITProcessor.apply_chat_template`], with decoded
    images.

    Args:
        rows (`Dataset`):
            Rows accepted by [`read_turns`], with undecoded images.
        image_column (`str`):
            Column of the images.
        most_images (`int`):
            Largest number of images in a row.
    """

    def __init__(self, rows: Dataset, image_column: str, most_images: int):
        self.rows, self.image_column, self.most_images = rows, image_column, most_images

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> list[dict]:
        row = self.rows[number]
        images = find_images(row, self.image_column)
        pictures = iter([_open(image) for image in images])
        messages = place_images(read_turns(row, len(images), str(number)), len(images))
        for message in messages:
            for part in message["content"]:
                if part["type"] == "image":
                    part["image"] = next(pictures)
        return messages


def load_conversations(source: str, split: str, image_column: str = "image") -> Conversations:
    """
    Loads conversations. Rows with an unreadable image are skipped, with a warning for each and their total number.

    Args:
        source (`str`):
            A JSON or JSONL file, or a folder with `<split>.json`, `<split>.jsonl` or `metadata.jsonl`, with image
            paths relative to the file; or any other source that [`load_split`] accepts, with a column `conversations`
            or `messages`.
        split (`str`):
            The split. A single file is `"train"`.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of one or more images. `images` and `file_name` are supported as well.

    Raises:
        TrainingError: If a row is not a conversation, or no row is left.
    """
    file = _find_file(source, split)
    rows = load_split(source, split) if file is None else Dataset.from_list(list(_read_file(file, image_column)))
    if not set(TURNS_COLUMNS) & set(rows.column_names):
        raise TrainingError(
            f"{source} has no column {' or '.join(TURNS_COLUMNS)}, only {', '.join(rows.column_names)}. A row looks "
            f"like {EXAMPLE}."
        )
    rows = _without_decoding(rows)
    num_images = {}  # of the kept rows
    for number, row in enumerate(rows):
        name = _name(row, number, source)
        images = find_images(row, image_column)
        read_turns(row, len(images), name)
        if all(_is_readable(image, name) for image in images):
            num_images[number] = len(images)
    if len(num_images) < len(rows):
        logger.warning("skipped %d of %d rows, whose images cannot be read", len(rows) - len(num_images), len(rows))
    if not num_images:
        raise TrainingError(f"none of the {len(rows)} rows of {source} has images that can be read.")
    return Conversations(rows.select(num_images), image_column, max(num_images.values()))


def find_images(row: Mapping, image_column: str) -> list[Any]:
    """Returns the images of a row, from the first column that contains any."""
    value = next((row[name] for name in (image_column, *IMAGE_COLUMNS) if row.get(name)), [])
    return list(value) if isinstance(value, list | tuple) else [value]


def read_turns(row: Mapping, num_images: int, name: str) -> list[dict[str, str]]:
    """
    Reads and checks the turns of a conversation.

    Args:
        row (`Mapping`):
            The row.
        num_images (`int`):
            Number of images in the row.
        name (`str`):
            Name of the row in error messages.

    Returns:
        `list[dict]`: messages with `role` and `content`, alternating between questions and answers.

    Raises:
        TrainingError: If there are no turns, a turn has no known role or no text, questions and answers do not
            alternate, or the numbers of marks and images differ.
    """
    turns = next((row[column] for column in TURNS_COLUMNS if row.get(column)), None)
    if not isinstance(turns, list) or not turns:
        raise TrainingError(f"{name} has no turns. A row looks like {EXAMPLE}.")
    messages = [_read_turn(turn, f"turn {number} of {name}") for number, turn in enumerate(turns, start=1)]
    _check_order([message["role"] for message in messages], name)
    _check_marks(messages, num_images, name)
    return messages


def place_images(messages: Sequence[Mapping], num_images: int) -> list[dict]:
    """
    Splits messages with marks into text and image parts. The images themselves are added later.

    Args:
        messages (`Sequence[Mapping]`):
            Output of [`read_turns`].
        num_images (`int`):
            Number of images. Without marks, all precede the first question.
    """
    placed = []
    for message in messages:
        parts = []
        for piece in re.split(f"({re.escape(IMAGE_MARK)})", message["content"]):
            if piece == IMAGE_MARK:
                parts.append({"type": "image"})
            elif piece.strip():
                parts.append({"type": "text", "text": piece.strip()})
        placed.append({"role": message["role"], "content": parts})
    if not any(part["type"] == "image" for message in placed for part in message["content"]):
        first = next(message for message in placed if message["role"] == "user")
        first["content"] = [{"type": "image"} for _ in range(num_images)] + first["content"]
    return placed


def _read_turn(turn: Any, name: str) -> dict[str, str]:
    turn = turn if isinstance(turn, Mapping) else {}
    role, text = turn.get("from") or turn.get("role"), turn.get("value")
    text = turn.get("content") if text is None else text
    if isinstance(text, list):  # parts, of text or an image
        text = "".join(IMAGE_MARK if part["type"] == "image" else part["text"] for part in text)
    if role not in ROLES:
        raise TrainingError(f"{name} is from {role!r}. It must be from human or gpt.")
    if not isinstance(text, str):
        raise TrainingError(f"{name} has no text: its value is {text!r}.")
    return {"role": ROLES[role], "content": text}


def _check_order(roles: list[str], name: str) -> None:
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or turns != ["user", "assistant"] * (len(turns) // 2):
        raise TrainingError(
            f"{name} has turns from {', '.join(roles)}. Questions and answers must alternate, ending with an answer."
        )


def _check_marks(messages: list[dict[str, str]], num_images: int, name: str) -> None:
    """Rejects marks that do not match the images, and turns without text or images."""
    marks = [message["content"].count(IMAGE_MARK) for message in messages]
    if any(count for count, message in zip(marks, messages) if message["role"] != "user"):
        raise TrainingError(f"{name} has an {IMAGE_MARK} in an answer, but only questions may contain images.")
    if sum(marks) not in {0, num_images}:
        raise TrainingError(
            f"{name} has {IMAGE_MARK} {sum(marks)} times, but {num_images} images. Write it once for each image, or "
            "leave it out to put the images before the first question."
        )
    first_question = [message["role"] for message in messages].index("user")
    for number, (message, count) in enumerate(zip(messages, marks)):
        shows = count or (number == first_question and num_images and not sum(marks))
        if not shows and not message["content"].strip():
            raise TrainingError(f"turn {number + 1} of {name} is empty.")


def _find_file(source: str, split: str) -> Path | None:
    """Returns the file of a split, or `None` if the source is neither a file nor a folder with one."""
    path = Path(source)
    if path.is_file():
        if split != "train":
            raise TrainingError(f"{source} is a single split and has no {split!r}. Pass a folder with {split}.json.")
        return path
    names = [f"{split}.json", f"{split}.jsonl", f"{split}/metadata.jsonl"]
    names += ["metadata.jsonl"] if split == "train" else []
    return next((path / name for name in names if (path / name).is_file()), None)


def _read_file(file: Path, image_column: str) -> Iterator[dict]:
    """Yields the rows of a file in a uniform format, with full image paths."""
    for number, row in enumerate(_parse(file)):
        name = _name(row if isinstance(row, Mapping) else {}, number, str(file))
        if not isinstance(row, Mapping):
            raise TrainingError(f"{name} is not a JSON object. A row looks like {EXAMPLE}.")
        images = find_images(row, image_column)
        if not all(isinstance(image, str) for image in images):
            raise TrainingError(f"{name} gives its images as {images!r}, not as paths.")
        turns = [{"from": turn["role"], "value": turn["content"]} for turn in read_turns(row, len(images), name)]
        yield {
            "id": str(row.get("id", "")),
            image_column: [str(file.parent / image) for image in images],
            TURNS_COLUMNS[0]: turns,
        }


def _parse(file: Path) -> list:
    try:
        text = file.read_text(encoding="utf-8-sig")  # some editors start files with a byte order mark
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]  # JSON may hold other separators
        rows = json.loads(text)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{file} cannot be read: {error}") from error
    if not isinstance(rows, list) or not rows:
        raise TrainingError(f"{file} does not hold a list of rows. A row looks like {EXAMPLE}.")
    return rows


def _without_decoding(rows: Dataset) -> Dataset:
    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), Image):
            rows = rows.cast_column(name, List(Image(decode=False)))
    return rows


def _name(row: Mapping, number: int, source: str) -> str:
    return f"row {number} of {source}" + (f" (id {row['id']})" if row.get("id") not in (None, "") else "")


def _is_readable(image: Any, name: str) -> bool:
    readable = read_image(_as_encoded(image)) is not None
    if not readable:
        logger.warning("skipped %s, whose image cannot be read", name)
    return readable


def _open(image: Any) -> PilImage.Image:
    return read_image(_as_encoded(image))


def _as_encoded(image: Any) -> dict:
    return {"bytes": None, "path": image} if isinstance(image, str) else image


__all__ = ["Conversations", "find_images", "load_conversations", "place_images", "read_turns"]

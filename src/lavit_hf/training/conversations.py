# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Conversations about images, as LLaVA's data hold them.

    {"image": "cat.jpg", "conversations": [
        {"from": "human", "value": "<image>\\nWho is it?"}, {"from": "gpt", "value": "a cat"}]}

A row may have several images, or none. Without a mark for any, its images stand before the first question. The
form of chats, `messages` with `role` and `content`, is read as well.
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

from .data import load_split, read_image
from .errors import TrainingError


logger = logging.getLogger(__name__)

IMAGE_MARK = "<image>"
TURNS_COLUMNS = ("conversations", "messages")
IMAGE_COLUMNS = ("images", "file_name")  # beside the one that is asked for
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
EXAMPLE = '{"image": "cat.jpg", "conversations": [{"from": "human", "value": "<image>\\nWho is it?"}, ' + (
    '{"from": "gpt", "value": "a cat"}]}'
)


class Conversations(TorchDataset):
    """
    Conversations as chats: of each row the messages that [`~LaVITProcessor.apply_chat_template`] takes, images read.

    Args:
        rows (`Dataset`):
            Rows that [`read_turns`] has passed, with their images not decoded.
        image_column (`str`):
            Where the images are.
        most_images (`int`):
            The images of the row that has most.
    """

    def __init__(self, rows: Dataset, image_column: str, most_images: int):
        self.rows, self.image_column, self.most_images = rows, image_column, most_images

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> list[dict]:
        row = self.rows[number]
        images = find_images(row, self.image_column)
        pictures = iter([_open(image).convert("RGB") for image in images])
        messages = place_images(read_turns(row, len(images), str(number)), len(images))
        for message in messages:
            for part in message["content"]:
                if part["type"] == "image":
                    part["image"] = next(pictures)
        return messages


def load_conversations(source: str, split: str, image_column: str = "image") -> Conversations:
    """
    Loads conversations. Rows with an image that cannot be read are left out, counted and named.

    Args:
        source (`str`):
            A JSON or JSONL file, a folder with `<split>.json`, `<split>.jsonl` or `metadata.jsonl`, in which images
            are named relative to the file; or whatever else [`load_split`] takes, with a column `conversations` or
            `messages`.
        split (`str`):
            Its split. A file by itself is `"train"`.
        image_column (`str`, *optional*, defaults to `"image"`):
            An image, or several. `images` and `file_name` are known as well.

    Raises:
        TrainingError: If a row is no conversation, which the message names; or no row is left.
    """
    file = _find_file(source, split)
    rows = load_split(source, split) if file is None else Dataset.from_list(list(_read_file(file, image_column)))
    if not set(TURNS_COLUMNS) & set(rows.column_names):
        raise TrainingError(
            f"{source} has no column {' or '.join(TURNS_COLUMNS)}, only {', '.join(rows.column_names)}. A row looks "
            f"like {EXAMPLE}."
        )
    rows = _without_decoding(rows)
    num_images = {}  # of the rows that are kept
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
    """The images of a row, in one or another of the columns that may hold them."""
    value = next((row[name] for name in (image_column, *IMAGE_COLUMNS) if row.get(name)), [])
    return list(value) if isinstance(value, list | tuple) else [value]


def read_turns(row: Mapping, num_images: int, name: str) -> list[dict[str, str]]:
    """
    The turns of a conversation, checked.

    Args:
        row (`Mapping`):
            The row.
        num_images (`int`):
            How many images it has.
        name (`str`):
            What messages call it.

    Returns:
        `list[dict]`: messages with `role` and `content`, questions and answers in turn.

    Raises:
        TrainingError: If there is no turn, one has no known role or no text, they do not alternate between question
            and answer, or marks and images differ in number.
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
    Turns with marks as messages of parts; the images themselves are not in them yet.

    Args:
        messages (`Sequence[Mapping]`):
            What [`read_turns`] gave.
        num_images (`int`):
            How many images there are. Without marks all stand before the first turn.
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
    if isinstance(text, list):  # parts, of which those of images have no text
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
    """Refuses marks that are not of one image each, and turns that neither say nor show anything."""
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
    """The file of a split; `None` where the source is no file nor a folder with one."""
    path = Path(source)
    if path.is_file():
        if split != "train":
            raise TrainingError(f"{source} is a single split and has no {split!r}. Pass a folder with {split}.json.")
        return path
    names = [f"{split}.json", f"{split}.jsonl", f"{split}/metadata.jsonl"]
    names += ["metadata.jsonl"] if split == "train" else []
    return next((path / name for name in names if (path / name).is_file()), None)


def _read_file(file: Path, image_column: str) -> Iterator[dict]:
    """The rows of a file, all of one form, with whole paths of their images."""
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
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
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

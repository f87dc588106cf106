# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Data of stage 2 (paper, section 3.2): samples from rows of images with texts, and of texts only."""

import logging
import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence

import torch
from datasets import Dataset, Image, IterableDataset, interleave_datasets
from torch.utils.data import Dataset as TorchDataset
from transformers import TrainerCallback

from ..lavit.processing_lavit import DEFAULT_QUESTION_TEMPLATE
from .errors import TrainingError


logger = logging.getLogger(__name__)

LAYOUTS = ("image_text", "text_image")
CODES_TEXT = "codes_text"  # "image_text" with the image read by its codes
IMAGE_COLUMNS = ("features", "rows", "image")  # an image to read; the first existing column is used
TEXT_COLUMNS = ("text", "texts")  # after an image
PROMPT_COLUMNS = ("prompt", "prompts")  # before an image
WRITTEN_COLUMN = "written"  # whether an image is a target for writing; true for all without the column


class SampleMaker:
    """
    Creates samples from rows: chooses the order of image and text, and one of the texts. The result only depends on
    the seed, the epoch and the row's number, not on the number of processes or where a run is resumed.

    Args:
        layouts (`Sequence[str]`, *optional*, defaults to `("image_text", "text_image")`):
            Layouts that rows alternate between: `"image_text"` (reading) or `"text_image"` (writing).
        question_template (`str`, *optional*):
            Template of questions. For texts that match it, only the answer is a target. Defaults to the processor's.
        condition_dropout (`float`, *optional*, defaults to 0.0):
            Share of images to write without text, which guidance requires at inference.
        example_share (`float`, *optional*, defaults to 0.0):
            Share of images to write with another image before the text, as an example of what they have in common.
        seed (`int`, *optional*, defaults to 0):
            Random seed.
        read_codes (`bool`, *optional*, defaults to `False`):
            Whether to read images by their codes instead of continuous rows (experimental).
        max_questions (`int`, *optional*, defaults to 1):
            Maximum number of questions about an image in one sample, which follow each other as in a chat.

    Raises:
        TrainingError: If a layout is unknown, or `max_questions` is not positive.
    """

    def __init__(
        self,
        layouts: Sequence[str] = LAYOUTS,
        question_template: str = DEFAULT_QUESTION_TEMPLATE,
        condition_dropout: float = 0.0,
        example_share: float = 0.0,
        seed: int = 0,
        read_codes: bool = False,
        max_questions: int = 1,
    ):
        if max_questions < 1:
            raise TrainingError(f"max_questions must be at least 1, got {max_questions}.")
        unknown = sorted(set(layouts) - set(LAYOUTS))
        if unknown or not layouts:
            raise TrainingError(f"layouts must be among {', '.join(LAYOUTS)}, got {', '.join(unknown) or 'none'}.")
        self.layouts = layouts
        self.question_template = question_template
        self.condition_dropout = condition_dropout
        self.example_share = example_share
        self.seed, self.read_codes = seed, read_codes
        self.max_questions = max_questions
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()  # shared with the loading processes

    @property
    def epoch(self) -> int:
        """The current epoch."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, including in the processes that load data."""
        self._epoch.fill_(epoch)

    def layout(self, number: int) -> str:
        """Returns the layout of a row's sample in this epoch."""
        return self.layouts[(number + self.epoch) % len(self.layouts)]

    def draw(self, number: int, purpose: str = "") -> random.Random:
        """Returns the random generator for a row in this epoch."""
        return random.Random(f"{self.seed}/{self.epoch}/{number}{purpose and f'/{purpose}'}")

    def pair(self, row: Mapping, number: int) -> dict:
        """Creates a sample for [`LanguageCollator`] from a row with an image and texts."""
        draw = self.draw(number)
        layout = self.layout(number) if _is_written(row) else "image_text"
        texts = texts_of(row, TEXT_COLUMNS)
        if layout == "image_text":
            (prompt, answer), *further = self._choose_turns(texts, draw)
            sample = {"prompt": prompt, "answer": answer, "further": further}
            if self.read_codes:
                return {"layout": CODES_TEXT, **sample, "codes": row["codes"]}
            image = {name: row[name] for name in (*IMAGE_COLUMNS, "keep_mask") if row.get(name) is not None}
            return {"layout": layout, **sample, "image": image}
        prompts = texts_of(row, PROMPT_COLUMNS) or [text for text in texts if not self._split_question(text)[0]]
        if draw.random() < self.condition_dropout or not prompts:
            return {"layout": layout, "prompt": "", "answer": "", "codes": row["codes"]}
        sample = {"layout": layout, "prompt": draw.choice(prompts), "answer": "", "codes": row["codes"]}
        if draw.random() < self.example_share:
            sample["example"] = draw.random()
        return sample

    def text(self, row: Mapping, number: int) -> dict:
        """Creates a sample from a row with texts only."""
        draw = self.draw(number, "text")
        return {"layout": "text", "prompt": "", "answer": draw.choice(texts_of(row, TEXT_COLUMNS))}

    def _choose_turns(self, texts: Sequence[str], draw: random.Random) -> list[tuple[str, str]]:
        """Chooses a text and, if it is a question, others to follow it; returns questions and answers."""
        first = draw.choice(texts)
        turns = [self._split_question(first)]
        if turns[0][0] and self.max_questions > 1:
            others = [turn for turn in map(self._split_question, dict.fromkeys(texts)) if turn[0] and turn != turns[0]]
            turns += draw.sample(others, min(len(others), self.max_questions - 1))
        return turns

    def _split_question(self, text: str) -> tuple[str, str]:
        """Splits a text into question and answer. Without a question, the whole text is the answer."""
        head, mark = self.question_template.split("{}")
        if not mark:  # nothing marks where an answer begins
            return "", text
        question, found, answer = text.partition(mark)
        if found and text.startswith(head):
            return question + mark, answer
        return "", text


class LanguageDataset(TorchDataset):
    """
    A dataset of image-text pairs, mixed with a given share of texts only.

    Args:
        pairs (`Dataset`):
            Rows with codes, an image to read and texts. If there is a boolean column `written`, rows with false are
            only read: where such a row would be written, a random row with true replaces it.
        maker ([`SampleMaker`]):
            Creates the samples.
        texts (`Dataset`, *optional*):
            Rows with texts, which are used in order and continued in the next epoch.
        text_share (`float`, *optional*, defaults to 0.0):
            Share of samples with texts only.
        example_column (`str`, *optional*):
            Column whose value an image and its example share. By default, any other image can be an example.
    """

    def __init__(
        self,
        pairs: Dataset,
        maker: SampleMaker,
        texts: Dataset | None = None,
        text_share: float = 0.0,
        example_column: str | None = None,
    ):
        _check_share(texts, text_share)
        self.pairs, self.maker, self.texts = pairs, maker, texts
        self.written = _find_written(pairs) if "text_image" in maker.layouts else None
        self.alike = _group_rows(pairs, example_column, self.written) if maker.example_share else None
        self.num_texts = round(len(pairs) * text_share / (1 - text_share))

    def __len__(self) -> int:
        return len(self.pairs) + self.num_texts

    def __getitem__(self, number: int) -> dict:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[dict]:
        """Returns several samples with one read per dataset."""
        pairs = [number for number in numbers if number < len(self.pairs)]
        texts = [number - len(self.pairs) for number in numbers if number >= len(self.pairs)]
        passed = self.maker.epoch * self.num_texts
        sources = [self._source(number) for number in pairs]
        pair_rows = _read(self.pairs, sources)
        text_rows = _read(self.texts, [(passed + number) % len(self.texts) for number in texts])
        samples = [self.maker.pair(row, number) for row, number in zip(pair_rows, pairs)]
        self._add_examples(samples, sources)
        return [*samples, *(self.maker.text(row, number) for row, number in zip(text_rows, texts))]

    def _source(self, number: int) -> int:
        """Returns the row for a sample: the row itself for reading, or a random written row for writing."""
        if self.written is None or self.maker.layout(number) != "text_image":
            return number
        return self.maker.draw(number, "written").choice(self.written)

    def _add_examples(self, samples: list[dict], numbers: list[int]) -> None:
        """Replaces the random number of each example by the codes of another row, if there is one to choose."""
        chosen = []
        for sample, number in zip(samples, numbers):
            if "example" in sample:
                example = _choose_other(self.alike[number], number, sample.pop("example"))
                chosen += [] if example is None else [(sample, example)]
        rows = _read(self.pairs.select_columns("codes"), [example for _, example in chosen]) if chosen else []
        for (sample, _), row in zip(chosen, rows):
            sample["example"] = row["codes"]


def _is_written(row: Mapping) -> bool:
    return bool(row.get(WRITTEN_COLUMN, True))


def _find_written(pairs: Dataset) -> Sequence[int] | None:
    """Returns the rows that are targets for writing, or `None` if all are."""
    if WRITTEN_COLUMN not in pairs.column_names:
        return None
    written = [number for number, row in enumerate(pairs.select_columns(WRITTEN_COLUMN)) if _is_written(row)]
    if not written:
        raise TrainingError(
            f"no row of the dataset is to be written. Set its column {WRITTEN_COLUMN!r} to true where an image is one "
            "to learn writing from, or leave the column out."
        )
    return written


def _group_rows(pairs: Dataset, column: str | None, members: Sequence[int] | None) -> list[Sequence[int]]:
    """For each row, returns the members (by default all rows) with the same value in a column, if there is one."""
    members = range(len(pairs)) if members is None else members
    if column is None:
        return [members] * len(pairs)
    if column not in pairs.column_names:
        raise TrainingError(f"the dataset has no example_column {column!r}, only {', '.join(pairs.column_names)}.")
    values = pairs[column][:]
    groups: dict = {}
    for number in members:
        groups.setdefault(values[number], []).append(number)
    return [groups.get(value, ()) for value in values]


def _choose_other(members: Sequence[int], number: int, share: float) -> int | None:
    """Returns one of the sorted members that is not the given number, by a share from 0 to 1, or `None`."""
    place = bisect_left(members, number)
    is_member = place < len(members) and members[place] == number
    num_others = len(members) - is_member
    if not num_others:
        return None
    chosen = int(share * num_others)
    return members[chosen + (is_member and chosen >= place)]


def _check_share(texts: Dataset | IterableDataset | None, text_share: float) -> None:
    if not 0 <= text_share < 1 or (text_share and texts is None):
        raise TrainingError(
            f"text_share ({text_share}) must lie in [0, 1), and needs a text_dataset if it is above 0."
        )


def _read(dataset: Dataset | None, numbers: list[int]) -> list[dict]:
    return dataset.__getitems__(numbers) if numbers else []


def stream_samples(
    pairs: IterableDataset, maker: SampleMaker, texts: IterableDataset | None = None, text_share: float = 0.0
) -> IterableDataset:
    """Like [`LanguageDataset`], for streaming datasets, with texts mixed in at random."""
    _check_share(texts, text_share)
    if "image_text" not in maker.layouts:  # without reading, the other rows have no use
        pairs = pairs.filter(_is_written)
    samples = pairs.map(maker.pair, with_indices=True, remove_columns=pairs.column_names)
    if not text_share:
        return samples
    # Repeated, so that a pass ends with the pairs and not with the texts.
    alone = texts.repeat(None).map(maker.text, with_indices=True, remove_columns=texts.column_names)
    return interleave_datasets([samples, alone], probabilities=[1 - text_share, text_share], seed=maker.seed)


class EpochCallback(TrainerCallback):
    """Sets the epoch of a [`SampleMaker`]."""

    def __init__(self, maker: SampleMaker):
        self.maker = maker
        self._passes = 0

    def on_epoch_begin(self, args, state, control, **kwargs):
        # The epochs of a stream, whose length is unknown, are shares of all steps: its passes are counted instead.
        self.maker.set_epoch(max(int(state.epoch or 0), self._passes))
        self._passes += 1


def texts_of(row: Mapping, columns: Sequence[str]) -> list[str]:
    """Returns the non-empty texts in the given columns of a row, which contain a text or a list of texts."""
    values = [row.get(column) for column in columns]
    texts = [text for value in values for text in ([value] if isinstance(value, str) else value or [])]
    return [text.strip() for text in texts if text and text.strip()]


def reading_column(dataset: Dataset | IterableDataset) -> str | None:
    """Returns the column of images to read: `"features"`, `"rows"`, `"image"`, or `None` if there is none."""
    return next((column for column in IMAGE_COLUMNS if column in dataset.column_names), None)


def prepare_pairs(dataset: Dataset | IterableDataset, layouts: Sequence[str]) -> Dataset | IterableDataset:
    """
    Prepares a dataset of images with texts for [`SampleMaker`].

    Args:
        dataset (`Dataset` or `IterableDataset`):
            Output of the pretokenizer.
        layouts (`Sequence[str]`):
            Layouts of its samples.

    Returns:
        `Dataset` or `IterableDataset`: The rows that have a text.

    Raises:
        TrainingError: If columns that the layouts need are missing, or there is no text.
    """
    needed = {TEXT_COLUMNS: "texts"}
    if "image_text" in layouts:
        needed[IMAGE_COLUMNS] = "images to read"
    if "text_image" in layouts:
        needed["codes",] = "images to write, as produced by pretokenize.py"
    for columns, what in needed.items():
        if not set(columns) & set(dataset.column_names):
            raise TrainingError(
                f"the dataset has no {' or '.join(columns)} ({what}), only {', '.join(sorted(dataset.column_names))}."
            )
    if reading_column(dataset) == "image":
        dataset = dataset.cast_column("image", Image())
    return leave_out_empty(dataset)


def leave_out_empty(dataset: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """
    Removes rows without a text, and logs their number.

    Raises:
        TrainingError: If no row is left, or there is no column of texts.
    """
    if not set(TEXT_COLUMNS) & set(dataset.column_names):
        raise TrainingError(f"the dataset has no {' or '.join(TEXT_COLUMNS)}, only {', '.join(dataset.column_names)}.")
    if isinstance(dataset, IterableDataset):
        return dataset.filter(lambda row: bool(texts_of(row, TEXT_COLUMNS)))
    texts = dataset.select_columns([name for name in TEXT_COLUMNS if name in dataset.column_names])
    kept = [number for number, row in enumerate(texts) if texts_of(row, TEXT_COLUMNS)]
    if len(kept) == len(dataset):
        return dataset
    logger.warning("skipped %d of %d rows, whose texts are empty", len(dataset) - len(kept), len(dataset))
    if not kept:
        raise TrainingError(f"none of the {len(dataset)} rows has a text.")
    return dataset.select(kept)


__all__ = [
    "EpochCallback",
    "LanguageDataset",
    "SampleMaker",
    "leave_out_empty",
    "prepare_pairs",
    "reading_column",
    "stream_samples",
]

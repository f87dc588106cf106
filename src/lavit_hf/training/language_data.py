# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Data of stage 2 (paper, section 3.2): images with texts and texts alone, and what a row of them is in an epoch."""

import logging
import random
from collections.abc import Mapping, Sequence

import torch
from datasets import Dataset, Image, IterableDataset, interleave_datasets
from torch.utils.data import Dataset as TorchDataset
from transformers import TrainerCallback

from ..lavit.processing_lavit import DEFAULT_QUESTION_TEMPLATE
from .errors import TrainingError


logger = logging.getLogger(__name__)

LAYOUTS = ("image_text", "text_image")
CODES_TEXT = "codes_text"  # "image_text" of which the image is read by its codes
IMAGE_COLUMNS = ("features", "rows", "image")  # an image that is read, the first of them that there is
TEXT_COLUMNS = ("text", "texts")  # behind an image
PROMPT_COLUMNS = ("prompt", "prompts")  # before an image
WRITTEN_COLUMN = "written"  # whether an image is one to learn writing from; without the column all are


class SampleMaker:
    """
    Decides what a row is in an epoch: which way round image and text stand, and which of its texts is taken. That
    depends on seed, epoch and the row's number alone, whatever the processes, and wherever a run is taken up again.

    Args:
        layouts (`Sequence[str]`, *optional*, defaults to `("image_text", "text_image")`):
            What a row is in turn: `"image_text"` (reading) or `"text_image"` (writing).
        question_template (`str`, *optional*):
            Texts of this form are questions, of which the answer alone is learned. Defaults to the processor's.
        condition_dropout (`float`, *optional*, defaults to 0.0):
            Share of images that are written without a text before them, as guidance needs it at inference.
        example_share (`float`, *optional*, defaults to 0.0):
            Share of images that are written with another image before the text, as an example of what they have in
            common.
        seed (`int`, *optional*, defaults to 0):
            Seed of all draws.
        read_codes (`bool`, *optional*, defaults to `False`):
            Whether images are read by their codes, as they are written, in place of continuous rows: an experiment.

    Raises:
        TrainingError: If a layout is unknown.
    """

    def __init__(
        self,
        layouts: Sequence[str] = LAYOUTS,
        question_template: str = DEFAULT_QUESTION_TEMPLATE,
        condition_dropout: float = 0.0,
        example_share: float = 0.0,
        seed: int = 0,
        read_codes: bool = False,
    ):
        unknown = sorted(set(layouts) - set(LAYOUTS))
        if unknown or not layouts:
            raise TrainingError(f"layouts must be among {', '.join(LAYOUTS)}, got {', '.join(unknown) or 'none'}.")
        self.layouts = layouts
        self.question_template = question_template
        self.condition_dropout = condition_dropout
        self.example_share = example_share
        self.seed, self.read_codes = seed, read_codes
        self._epoch = torch.zeros(1, dtype=torch.long).share_memory_()  # loading happens in other processes

    @property
    def epoch(self) -> int:
        """The epoch that rows are made for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Sets it, in the processes that load data as well."""
        self._epoch.fill_(epoch)

    def layout(self, number: int) -> str:
        """The layout of a row's sample in this epoch."""
        return self.layouts[(number + self.epoch) % len(self.layouts)]

    def draw(self, number: int, purpose: str = "") -> random.Random:
        """The source of a row's draws in this epoch."""
        return random.Random(f"{self.seed}/{self.epoch}/{number}{purpose and f'/{purpose}'}")

    def pair(self, row: Mapping, number: int) -> dict:
        """The row of an image with texts as a sample for [`LanguageCollator`]."""
        draw = self.draw(number)
        layout = self.layout(number) if _is_written(row) else "image_text"
        texts = texts_of(row, TEXT_COLUMNS)
        if layout == "image_text":
            prompt, answer = self._split_question(draw.choice(texts))
            if self.read_codes:
                return {"layout": CODES_TEXT, "prompt": prompt, "answer": answer, "codes": row["codes"]}
            image = {name: row[name] for name in (*IMAGE_COLUMNS, "keep_mask") if row.get(name) is not None}
            return {"layout": layout, "prompt": prompt, "answer": answer, "image": image}
        prompts = texts_of(row, PROMPT_COLUMNS) or [text for text in texts if not self._split_question(text)[0]]
        if draw.random() < self.condition_dropout or not prompts:
            return {"layout": layout, "prompt": "", "answer": "", "codes": row["codes"]}
        sample = {"layout": layout, "prompt": draw.choice(prompts), "answer": "", "codes": row["codes"]}
        if draw.random() < self.example_share:
            sample["example"] = draw.random()
        return sample

    def text(self, row: Mapping, number: int) -> dict:
        """The row of texts alone as a sample."""
        draw = self.draw(number, "text")
        return {"layout": "text", "prompt": "", "answer": draw.choice(texts_of(row, TEXT_COLUMNS))}

    def _split_question(self, text: str) -> tuple[str, str]:
        """A question and what is answered; a text that is none is all answer."""
        head, mark = self.question_template.split("{}")
        question, found, answer = text.partition(mark)
        if found and text.startswith(head):
            return question + mark, answer
        return "", text


class LanguageDataset(TorchDataset):
    """
    Image-text pairs, and texts alone mixed in at a given share.

    Args:
        pairs (`Dataset`):
            Rows with codes, an image to read and texts. Where there is a boolean column `written`, the other rows are
            only read: when it is the turn of one to be written, one of the written rows takes its place.
        maker ([`SampleMaker`]):
            Makes samples of them.
        texts (`Dataset`, *optional*):
            Rows with texts, which are gone through in order from epoch to epoch.
        text_share (`float`, *optional*, defaults to 0.0):
            The share of samples that are texts alone.
        example_column (`str`, *optional*):
            What an image and its example have in common. Any two images by default.
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
        """Several samples by one read."""
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
        """The row that a sample is made of: any that reads, but only one of the written rows that writes."""
        if self.written is None or self.maker.layout(number) != "text_image":
            return number
        return self.maker.draw(number, "written").choice(self.written)

    def _add_examples(self, samples: list[dict], numbers: list[int]) -> None:
        """Puts the codes of the example in the place of what was drawn for it."""
        waiting = [(sample, number) for sample, number in zip(samples, numbers) if "example" in sample]
        chosen = [self.alike[number] for _, number in waiting]
        chosen = [alike[int(sample["example"] * len(alike))] for alike, (sample, _) in zip(chosen, waiting)]
        if chosen:
            codes = self.pairs.select_columns("codes").__getitems__(chosen)
            for (sample, _), row in zip(waiting, codes):
                sample["example"] = row["codes"]


def _is_written(row: Mapping) -> bool:
    return bool(row.get(WRITTEN_COLUMN, True))


def _find_written(pairs: Dataset) -> Sequence[int] | None:
    """The rows to learn writing from, or `None` where these are all."""
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
    """For each row those of the members (by default all) that have the same value in a column, or all of them."""
    members = range(len(pairs)) if members is None else members
    if column is None:
        return [members] * len(pairs)
    if column not in pairs.column_names:
        raise TrainingError(f"the dataset has no example_column {column!r}, only {', '.join(pairs.column_names)}.")
    values = pairs[column][:]
    groups: dict = {}
    for number in members:
        groups.setdefault(values[number], []).append(number)
    return [groups.get(value, members) for value in values]


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
    """[`LanguageDataset`] for data sets that stream, in which texts alone are drawn by chance."""
    _check_share(texts, text_share)
    if "image_text" not in maker.layouts:  # in which the others would be read
        pairs = pairs.filter(_is_written)
    samples = pairs.map(maker.pair, with_indices=True, remove_columns=pairs.column_names)
    if not text_share:
        return samples
    alone = texts.map(maker.text, with_indices=True, remove_columns=texts.column_names)
    return interleave_datasets([samples, alone], probabilities=[1 - text_share, text_share], seed=maker.seed)


class EpochCallback(TrainerCallback):
    """Tells a [`SampleMaker`] the epoch."""

    def __init__(self, maker: SampleMaker):
        self.maker = maker

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.maker.set_epoch(int(state.epoch or 0))


def texts_of(row: Mapping, columns: Sequence[str]) -> list[str]:
    """The texts in some columns of a row, each one text or a list of them; empty ones are left out."""
    values = [row.get(column) for column in columns]
    texts = [text for value in values for text in ([value] if isinstance(value, str) else value or [])]
    return [text.strip() for text in texts if text and text.strip()]


def reading_column(dataset: Dataset | IterableDataset) -> str | None:
    """The column of what is read of images: `"features"`, `"rows"` or `"image"`; `None` where there is none."""
    return next((column for column in IMAGE_COLUMNS if column in dataset.column_names), None)


def prepare_pairs(dataset: Dataset | IterableDataset, layouts: Sequence[str]) -> Dataset | IterableDataset:
    """
    Makes a data set of images with texts ready for [`SampleMaker`].

    Args:
        dataset (`Dataset` or `IterableDataset`):
            What the pretokenizer wrote.
        layouts (`Sequence[str]`):
            What its rows are to be.

    Returns:
        `Dataset` or `IterableDataset`: The rows that have a text.

    Raises:
        TrainingError: If it has not the columns that the layouts need, or no text.
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
    Leaves out the rows without a text, and says how many.

    Raises:
        TrainingError: If none is left, or there is no column of texts.
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

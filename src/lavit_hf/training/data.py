# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Training datasets: folders, Hub ids, WebDataset shards or output of the package's own scripts."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, Image, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError
from PIL.Image import Image as PilImage

from ..parquet_folders import has_parquet
from .encoded_images import ReadableImage, read_image
from .errors import TrainingError
from .shards import SETTINGS_NAME, read_shards


logger = logging.getLogger(__name__)

TAR_ENDING = ".tar"
BRACES = re.compile(r"\{([^{}]*)\}")


def load_split(source: str, split: str = "train", streaming: bool = False) -> Dataset | IterableDataset:
    """
    Loads one split of a dataset.

    Args:
        source (`str`):
            A folder written by `save_to_disk` or the package's scripts, a folder of images with a `metadata.jsonl`,
            WebDataset shards as a glob or with braces (`"shards/*.tar"`, `"shards/{0000..9999}.tar"`), or a Hub id.
        split (`str`, *optional*, defaults to `"train"`):
            The split. The package's own shards have one folder per split, with its name.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to stream the dataset.

    Raises:
        TrainingError: If the split cannot be loaded or has no rows.
    """
    try:
        dataset = _load(source, split, streaming)
    except TrainingError:
        raise
    except (OSError, ValueError, DatasetsError) as error:  # no such data or split, no connection, nothing in it
        reason = error.__cause__ or error
        raise TrainingError(f"the split {split!r} of {source} cannot be loaded: {reason}") from error
    if not streaming and len(dataset) == 0:
        raise TrainingError(f"the split {split!r} of {source} is empty.")
    return dataset


def _load(source: str, split: str, streaming: bool) -> Dataset | IterableDataset:
    folder = Path(source)
    if (folder / split / SETTINGS_NAME).exists():
        return read_shards(folder / split, streaming)
    if (folder / "dataset_dict.json").exists():
        splits = load_from_disk(source)
        if split not in splits:
            raise TrainingError(f"{source} has no split {split!r}, only {', '.join(splits)}.")
        dataset = splits[split]
        return dataset.to_iterable_dataset() if streaming else dataset
    if (folder / "state.json").exists():
        raise TrainingError(
            f"{source} is a single dataset without splits. Save it as one: "
            f"`DatasetDict({{{split!r}: dataset}}).save_to_disk(...)`."
        )
    if are_tar_shards(source):
        return load_dataset("webdataset", data_files={split: expand_braces(source)}, split=split, streaming=streaming)
    if folder.is_dir() and not has_parquet(folder):
        return load_dataset("imagefolder", data_dir=source, split=split, streaming=streaming)
    return load_dataset(source, split=split, streaming=streaming)


def are_tar_shards(source: str) -> bool:
    """Whether a dataset is given as WebDataset shards."""
    return source.endswith(TAR_ENDING)


def expand_braces(pattern: str) -> list[str]:
    """
    Expands braces in a pattern, as in a shell.

    Args:
        pattern (`str`):
            A pattern with any number of braces, which contain a range of numbers (`"{0000..9999}.tar"`) or words
            (`"{a,b}.tar"`).

    Raises:
        TrainingError: If braces contain an invalid range.
    """
    braces = BRACES.search(pattern)
    if braces is None:
        return [pattern]
    first, dots, last = braces[1].partition("..")
    if not dots:
        words = braces[1].split(",")
    elif first.isdecimal() and last.isdecimal() and int(first) <= int(last):
        words = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    else:
        raise TrainingError(f"{braces[0]} in {pattern} is not a range of numbers such as {{0000..9999}}.")
    before, behind = pattern[: braces.start()], pattern[braces.end() :]
    return [name for word in words for name in expand_braces(f"{before}{word}{behind}")]


def skip_broken_images(dataset: Dataset | IterableDataset, column: str = "image") -> Dataset | IterableDataset:
    """
    Skips rows with unreadable images, with a warning for each. A streaming dataset warns while it is read.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            Rows with an image.
        column (`str`, *optional*, defaults to `"image"`):
            Column of the image.

    Returns:
        `Dataset` or `IterableDataset`: The other rows, with images decoded on access.

    Raises:
        TrainingError: If the column is missing, or no image can be read.
    """
    if dataset.column_names is not None and column not in dataset.column_names:
        raise TrainingError(f"the dataset has no column {column!r}, only {', '.join(dataset.column_names)}.")
    if isinstance(dataset, IterableDataset):  # each image is read once, since reading may mean downloading
        return dataset.cast_column(column, ReadableImage()).decode().filter(_is_there, input_columns=column)
    encoded = dataset.cast_column(column, Image(decode=False))
    kept = encoded.filter(_is_readable, input_columns=column, desc="Checking images")
    _report(encoded, kept)
    return kept.cast_column(column, ReadableImage())


def _is_readable(image: Mapping | None) -> bool:
    return read_image(image) is not None


def _is_there(image: PilImage | None) -> bool:
    return image is not None


def _report(encoded: Dataset, kept: Dataset) -> None:
    broken = len(encoded) - len(kept)
    if not len(kept):
        raise TrainingError(f"none of the {len(encoded)} images can be read.")
    if broken:
        logger.warning("skipped %d of %d images, which cannot be read", broken, len(encoded))

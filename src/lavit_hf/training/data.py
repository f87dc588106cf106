# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Data sets to train on: folders, Hub ids, WebDataset shards or what the package's own scripts wrote."""

import io
import logging
import re
from pathlib import Path

from datasets import Dataset, Image, IterableDataset, load_dataset, load_from_disk
from datasets.exceptions import DatasetsError
from PIL import Image as PilImage

from .errors import TrainingError
from .shards import SETTINGS_NAME, read_shards


logger = logging.getLogger(__name__)

TAR_ENDING = ".tar"
BRACES = re.compile(r"\{([^{}]*)\}")


def load_split(source: str, split: str = "train", streaming: bool = False) -> Dataset | IterableDataset:
    """
    Loads one split of a data set.

    Args:
        source (`str`):
            A folder that `save_to_disk` or the package's scripts wrote, a folder of images with a `metadata.jsonl`,
            WebDataset shards by a glob or by braces (`"shards/*.tar"`, `"shards/{0000..9999}.tar"`), or a Hub id.
        split (`str`, *optional*, defaults to `"train"`):
            Its split. The package's own shards are one split each, in a folder of that name.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read it as it is needed.

    Raises:
        TrainingError: If it cannot be found or has no rows.
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
    if are_tar_shards(source):
        return load_dataset("webdataset", data_files={split: expand_braces(source)}, split=split, streaming=streaming)
    if folder.is_dir() and not any(folder.glob("*.parquet")):
        return load_dataset("imagefolder", data_dir=source, split=split, streaming=streaming)
    return load_dataset(source, split=split, streaming=streaming)


def are_tar_shards(source: str) -> bool:
    """Whether a data set is named by its WebDataset shards."""
    return source.endswith(TAR_ENDING)


def expand_braces(pattern: str) -> list[str]:
    """
    Names that a pattern with braces stands for, as in a shell.

    Args:
        pattern (`str`):
            With numbers in braces (`"{0000..9999}.tar"`), words (`"{a,b}.tar"`), several of them or none.

    Raises:
        TrainingError: If what stands in braces are neither.
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
    Leaves out the rows whose image cannot be read, and says which. A data set that streams says so as it goes.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            Rows with an image.
        column (`str`, *optional*, defaults to `"image"`):
            Its column.

    Returns:
        `Dataset` or `IterableDataset`: The others, their images decoded when they are read.

    Raises:
        TrainingError: If the column is missing, or no image can be read.
    """
    if dataset.column_names is not None and column not in dataset.column_names:
        raise TrainingError(f"the dataset has no column {column!r}, only {', '.join(dataset.column_names)}.")
    encoded = dataset.cast_column(column, Image(decode=False))
    if isinstance(dataset, Dataset):
        kept = encoded.filter(_is_readable, input_columns=column, desc="Checking images")
        _report(encoded, kept, column)
        return kept.cast_column(column, Image())
    kept = encoded.filter(_is_readable, input_columns=column)
    return kept.cast_column(column, Image()).decode()  # which a stream does only when it is told


def read_image(image: dict) -> PilImage.Image | None:
    """
    Reads an image of a column that is not decoded. One that cannot be read is named in a warning.

    Args:
        image (`dict`):
            Its `bytes`, or its `path`.

    Returns:
        `PIL.Image.Image` or `None`: The image; `None` for a broken one.
    """
    try:
        with PilImage.open(io.BytesIO(image["bytes"]) if image["bytes"] else image["path"]) as picture:
            picture.load()
    except (OSError, ValueError, SyntaxError, TypeError, AttributeError) as error:
        logger.warning("skipped an image that cannot be read: %s (%s)", _name(image), error)
        return None
    return picture


def _is_readable(image: dict) -> bool:
    return read_image(image) is not None


def _name(image: dict | None) -> str:
    return (image or {}).get("path") or "one without a name"


def _report(encoded: Dataset, kept: Dataset, column: str) -> None:
    broken = len(encoded) - len(kept)
    if not len(kept):
        raise TrainingError(f"none of the {len(encoded)} images can be read.")
    if broken:
        logger.warning("skipped %d of %d images, which cannot be read", broken, len(encoded))

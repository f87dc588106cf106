# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Datasets as parquet shards, written by any number of processes and jobs, and resumed after an interruption."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from datasets import Dataset, IterableDataset, load_dataset
from tqdm.auto import tqdm

from ..lavit.atomic_files import atomic_file
from .errors import TrainingError
from .records import read_record, write_record


T = TypeVar("T")

SETTINGS_NAME = "shards.json"


@dataclass(frozen=True)
class Part:
    """
    One of several disjoint parts of all shards, such as for the jobs of a SLURM array.

    Args:
        number (`int`, *optional*, defaults to 1):
            Number of this part, counted from 1.
        count (`int`, *optional*, defaults to 1):
            Number of parts.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Part":
        """
        Parses text such as `"3/64"`, the third of 64 parts. `None` means all shards.

        Raises:
            TrainingError: If the text is not a valid part.
        """
        if text is None:
            return cls()
        numbers = re.fullmatch(r"(\d+)/(\d+)", text)
        part = cls(*map(int, numbers.groups())) if numbers else None
        if part is None or not 1 <= part.number <= part.count:
            raise TrainingError(f"part must be one of 1/N, 2/N, ..., N/N, got {text!r}.")
        return part

    def take(self, items: Sequence[T]) -> Sequence[T]:
        """Returns the items of this part."""
        return items[self.number - 1 :: self.count]


@dataclass(frozen=True)
class Shard:
    """
    A file, and the rows that go into it.

    Args:
        path (`Path`):
            The file.
        rows (`range`):
            Indices of the rows.
    """

    path: Path
    rows: range

    def write(self, encode: Callable[[range], Iterable[dict]], schema: pa.Schema) -> None:
        """Encodes the rows and writes the results atomically."""
        with atomic_file(self.path) as file:
            pq.write_table(pa.Table.from_pylist(list(encode(self.rows)), schema), file, compression="zstd")

    def count(self) -> int:
        """Returns the number of rows written."""
        return pq.read_metadata(self.path).num_rows


def prepare_shards(
    num_rows: int, output: Path, settings: dict, rows_per_shard: int = 1024, part: Part | None = None
) -> list[Shard]:
    """
    Splits rows into shards named `part-00000-of-00008.parquet` and so on, and creates their folder, or checks that an
    existing folder is for the same shards.

    Args:
        num_rows (`int`):
            Number of rows.
        output (`Path`):
            Folder for the shards.
        settings (`dict`):
            Settings that the shards depend on. Saved next to the shards, so that a folder never mixes two settings.
        rows_per_shard (`int`, *optional*, defaults to 1024):
            Number of rows per shard, except for the last.
        part ([`Part`], *optional*):
            The part of the shards to return. Defaults to all.

    Raises:
        TrainingError: If there are no rows, or the folder contains shards with other settings.
    """
    if num_rows == 0:
        raise TrainingError("there is nothing to encode: the dataset is empty.")
    _check_settings(output, {**settings, "num_rows": num_rows, "rows_per_shard": rows_per_shard})
    starts = range(0, num_rows, rows_per_shard)
    shards = [
        Shard(
            output / f"part-{number:05d}-of-{len(starts):05d}.parquet",
            range(start, min(start + rows_per_shard, num_rows)),
        )
        for number, start in enumerate(starts)
    ]
    return (part or Part()).take(shards)


def write_shards(
    num_rows: int,
    encode: Callable[[range], Iterable[dict]],
    output: Path,
    schema: pa.Schema,
    settings: dict,
    rows_per_shard: int = 1024,
    part: Part | None = None,
) -> list[Shard]:
    """
    Encodes all rows, or one part of them, and writes them as shards. The shards are divided among the processes of an
    `accelerate launch`. Existing shards are skipped.

    Args:
        num_rows (`int`):
            Number of rows to encode.
        encode (`Callable[[range], Iterable[dict]]`):
            Returns the encoded rows for a range of rows: one or more per row, or none for an unreadable row.
        output (`Path`):
            Folder for the shards.
        schema (`pa.Schema`):
            Columns of the encoded rows.
        settings (`dict`):
            Settings that the shards depend on. Saved next to the shards, so that a folder never mixes two settings.
        rows_per_shard (`int`, *optional*, defaults to 1024):
            Number of rows to encode per shard.
        part ([`Part`], *optional*):
            The part of the shards to write. Defaults to all.

    Returns:
        `list[Shard]`: The shards of the part, all of which exist.

    Raises:
        TrainingError: If there are no rows, the folder contains shards with other settings, or several processes each
            run as if they were the only one.
    """
    state = PartialState()
    if int(os.environ.get("WORLD_SIZE", 1)) != state.num_processes:
        raise TrainingError("the processes are not connected to each other. Without an accelerator, set use_cpu.")
    with state.main_process_first():
        shards = prepare_shards(num_rows, output, settings, rows_per_shard, part)
    own = shards[state.process_index :: state.num_processes]
    for shard in tqdm(own, desc="shards", disable=not state.is_local_main_process):
        if not shard.path.exists():
            shard.write(encode, schema)
    state.wait_for_everyone()
    return shards


def read_shards(folder: Path, streaming: bool = False) -> Dataset | IterableDataset:
    """
    Loads shards written by [`write_shards`].

    Args:
        folder (`Path`):
            Folder of the shards.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to stream the rows.

    Raises:
        TrainingError: If shards are missing, or contain no rows.
    """
    shards = sorted(folder.glob("part-*.parquet"))
    expected = int(shards[0].stem.split("-of-")[1]) if shards else None
    if len(shards) != expected:
        raise TrainingError(
            f"{folder} has {len(shards)} of {expected or 'an unknown number of'} shards. Run the command that makes "
            "them again; it resumes where it stopped."
        )
    filled = [str(shard) for shard in shards if pq.read_metadata(shard).num_rows]  # datasets fails on empty shards
    if not filled:
        raise TrainingError(f"the shards in {folder} have no rows: none of their sources could be read.")
    return load_dataset("parquet", data_files=filled, split="train", streaming=streaming)


def _check_settings(output: Path, settings: dict) -> None:
    output.mkdir(parents=True, exist_ok=True)
    path = output / SETTINGS_NAME
    if not path.exists():
        write_record(path, settings)
    found = read_record(path)
    changed = sorted(name for name in settings.keys() | found.keys() if settings.get(name) != found.get(name))
    if changed:
        raise TrainingError(
            f"{output} has shards made with other settings ({', '.join(changed)} changed). Choose another folder, or "
            "remove this one."
        )

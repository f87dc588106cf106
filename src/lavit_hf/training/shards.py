# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Writes a data set as parquet shards: over any number of processes, and where it was cut short it goes on."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import PartialState
from datasets import Dataset, IterableDataset, load_dataset
from tqdm.auto import tqdm

from ..lavit.atomic_files import atomic_file
from .errors import TrainingError


SETTINGS_NAME = "shards.json"


def write_shards(
    num_rows: int,
    encode: Callable[[range], Iterable[dict]],
    output: Path,
    schema: pa.Schema,
    settings: dict,
    rows_per_shard: int = 1024,
) -> None:
    """
    Writes what `encode` gives for all rows as `part-00000-of-00008.parquet` and so on. Every process of an
    `accelerate launch` takes every so many-th shard; shards that are there already are left as they are.

    Args:
        num_rows (`int`):
            Number of rows to encode.
        encode (`Callable[[range], Iterable[dict]]`):
            Gives the encoded rows of a range of rows, one or several for each, or none for a broken one.
        output (`Path`):
            Folder for the shards.
        schema (`pa.Schema`):
            Columns of the encoded rows.
        settings (`dict`):
            What the shards depend on. Kept beside them, so that no folder mixes two.
        rows_per_shard (`int`, *optional*, defaults to 1024):
            Number of rows to encode for each shard.

    Raises:
        TrainingError: If there are no rows, the folder holds shards that were made with other settings, or each of
            several processes takes itself for the only one.
    """
    if num_rows == 0:
        raise TrainingError("there is nothing to encode: the data set is empty.")
    state = PartialState()
    if int(os.environ.get("WORLD_SIZE", 1)) != state.num_processes:
        raise TrainingError("the processes do not know of each other: without an accelerator, set use_cpu.")
    settings = {**settings, "num_rows": num_rows, "rows_per_shard": rows_per_shard}
    with state.main_process_first():
        _check_settings(output, settings)
    num_shards = -(-num_rows // rows_per_shard)
    numbers = range(state.process_index, num_shards, state.num_processes)
    for number in tqdm(numbers, desc="shards", disable=not state.is_local_main_process):
        shard = output / f"part-{number:05d}-of-{num_shards:05d}.parquet"
        if not shard.exists():
            rows = range(number * rows_per_shard, min((number + 1) * rows_per_shard, num_rows))
            _write_shard(shard, encode(rows), schema)
    state.wait_for_everyone()


def read_shards(folder: Path, streaming: bool = False) -> Dataset | IterableDataset:
    """
    Loads shards that [`write_shards`] wrote.

    Args:
        folder (`Path`):
            Their folder.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read them as they are needed.

    Raises:
        TrainingError: If shards are missing, or hold no rows.
    """
    shards = sorted(folder.glob("part-*.parquet"))
    expected = int(shards[0].stem.split("-of-")[1]) if shards else None
    if len(shards) != expected:
        raise TrainingError(
            f"{folder} holds {len(shards)} of {expected or 'an unknown number of'} shards: run what makes them again, "
            "it goes on where it stopped."
        )
    filled = [str(shard) for shard in shards if pq.read_metadata(shard).num_rows]  # datasets stumbles over the others
    if not filled:
        raise TrainingError(f"the shards in {folder} hold no rows: none of what they were made from could be read.")
    return load_dataset("parquet", data_files=filled, split="train", streaming=streaming)


def _check_settings(output: Path, settings: dict) -> None:
    output.mkdir(parents=True, exist_ok=True)
    path = output / SETTINGS_NAME
    if not path.exists():
        with atomic_file(path) as file:
            file.write_text(json.dumps(settings, indent=2) + "\n")
    found = json.loads(path.read_text())
    changed = sorted(name for name in settings.keys() | found.keys() if settings.get(name) != found.get(name))
    if changed:
        raise TrainingError(
            f"{output} holds shards of other settings ({', '.join(changed)} changed): choose another folder, or "
            "remove this one."
        )


def _write_shard(path: Path, rows: Iterable[dict], schema: pa.Schema) -> None:
    with atomic_file(path) as file:
        pq.write_table(pa.Table.from_pylist(list(rows), schema), file, compression="zstd")

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A pretokenization run: its settings, and the run for one split."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset, Image, IterableDataset

from ..fast_dtypes import is_slow
from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from ..wiring import LaVITImageProcessor
from .data import are_tar_shards, load_split
from .errors import TrainingError
from .pretokenizing import Pretokenizer
from .settings import load_function
from .shards import Part, Shard, prepare_shards, write_shards


FREE_TO_CHANGE = ("output", "splits", "use_cpu", "part")  # all others determine the contents of shards


@dataclass
class PretokenizeSettings:
    """Settings of a pretokenization run."""

    visual_tokenizer: str = field(metadata={"help": "Path or Hub id of the trained tokenizer."})
    dataset: str = field(
        metadata={
            "aliases": ["--input"],
            "help": "Images with texts, or precomputed features: a folder, a Hub id, or WebDataset shards such as "
            "'shards/{0000..9999}.tar'.",
        }
    )
    output: str = field(metadata={"help": "Folder for the shards, with a subfolder for each split."})
    splits: list[str] = field(default_factory=lambda: ["train"])
    part: str | None = field(
        default=None, metadata={"help": "Write only one part of the shards, such as 3/64 for the third of 64."}
    )
    rows: str = field(
        default="features",
        metadata={"help": "What to store for reading: the encoder's `features`, `merged` rows, or `none`."},
    )
    selection: str | None = field(
        default=None, metadata={"help": "How patches are kept; as the checkpoint says by default."}
    )
    image_column: str = "image"
    text_column: str | None = field(default=None, metadata={"help": "Column of the texts, if it is not called text."})
    features_column: str = field(
        default="features",
        metadata={"help": "Column of precomputed features, used instead of the images if it exists."},
    )
    keep_columns: list[str] = field(
        default_factory=list, metadata={"help": "Columns to keep in addition to the texts."}
    )
    text_function: str | None = field(
        default=None, metadata={"help": "`file.py:function` that makes the `texts` and `prompts` of a row."}
    )
    patch_choice: str | None = field(
        default=None,
        metadata={"help": "Experimental: `file.py:function` that selects patches instead of the selector."},
    )
    dtype: str = field(default="float32", metadata={"help": "Dtype to run the tokenizer in."})
    use_cpu: bool = field(
        default=False, metadata={"help": "Run on the CPU; needed for several processes without an accelerator."}
    )
    batch_size: int = 64
    rows_per_shard: int = field(
        default=1024, metadata={"help": "Number of rows per shard; a WebDataset shard always becomes one shard."}
    )
    seed: int = 0

    def __post_init__(self):
        Part.parse(self.part)


class PretokenizeRun:
    """
    Pretokenizes one split of a dataset.

    Args:
        settings ([`PretokenizeSettings`]):
            The settings of the run.
        split (`str`):
            The split.

    Raises:
        TrainingError: If the dataset cannot be loaded, is empty, or lacks a column.
    """

    def __init__(self, settings: PretokenizeSettings, split: str):
        self.settings, self.split = settings, split
        self.output = Path(settings.output) / split
        with PartialState(cpu=settings.use_cpu).main_process_first():
            dataset = load_pairs(settings, split)
        self.pretokenizer = Pretokenizer(
            load_tokenizer(settings),
            dataset,
            LaVITImageProcessor.from_pretrained(settings.visual_tokenizer),
            rows=settings.rows,
            image_column=settings.image_column,
            features_column=settings.features_column,
            keep_columns=settings.keep_columns,
            make_texts=load_function(settings.text_function) if settings.text_function else None,
            patch_choice=load_function(settings.patch_choice) if settings.patch_choice else None,
            batch_size=settings.batch_size,
            seed=settings.seed,
        )

    @property
    def rows_per_shard(self) -> int:
        """Number of rows per shard, or of files for a streaming dataset."""
        return 1 if self.pretokenizer.streams else self.settings.rows_per_shard

    def prepare(self) -> list[Shard]:
        """Creates the folder of the shards, and returns those of this run's part, whether written or not."""
        return prepare_shards(
            self.pretokenizer.num_rows,
            self.output,
            self._describe(),
            self.rows_per_shard,
            Part.parse(self.settings.part),
        )

    def write_all(self) -> list[Shard]:
        """Writes the missing shards of this run's part in all processes, and returns all shards of the part."""
        return write_shards(
            self.pretokenizer.num_rows,
            self.pretokenizer.encode,
            self.output,
            self.pretokenizer.schema,
            self._describe(),
            self.rows_per_shard,
            Part.parse(self.settings.part),
        )

    def write(self, shard: Shard) -> None:
        """Writes one shard."""
        shard.write(self.pretokenizer.encode, self.pretokenizer.schema)

    def report(self, shards: list[Shard]) -> str:
        """Summarizes what was written."""
        part = f" as part {self.settings.part}" if self.settings.part else ""
        written = sum(shard.count() for shard in shards)
        text = f"{self.split}: {written} rows in {len(shards)} shards of {self.output}{part}"
        if self.pretokenizer.streams:
            return text
        return f"{text}, {sum(len(shard.rows) for shard in shards) - written} images skipped"

    def _describe(self) -> dict:
        """Settings that the shards depend on, with a digest of the codebook to detect a retrained tokenizer."""
        described = {name: value for name, value in asdict(self.settings).items() if name not in FREE_TO_CHANGE}
        codebook = self.pretokenizer.visual_tokenizer.quantizer.codebook.weight.detach().float().cpu().numpy()
        return {**described, "split": self.split, "codebook": hashlib.sha256(codebook.tobytes()).hexdigest()}


def load_pairs(settings: PretokenizeSettings, split: str) -> Dataset | IterableDataset:
    """Loads the split, with its texts in the column `text`."""
    dataset = load_split(settings.dataset, split, streaming=are_tar_shards(settings.dataset))
    names = dataset.column_names or ()
    if settings.image_column in names:  # a streaming dataset would decode when renaming, and fail
        dataset = dataset.cast_column(settings.image_column, Image(decode=False))
    if settings.text_column not in (None, "text"):
        if settings.text_column not in names:
            raise TrainingError(
                f"{settings.dataset} has no text column {settings.text_column!r}, only {', '.join(names)}."
            )
        dataset = dataset.rename_column(settings.text_column, "text")
    return dataset


def load_tokenizer(settings: PretokenizeSettings) -> LaVITVisualTokenizer:
    """Loads the trained tokenizer onto its device, in float32 if the device is slow in the dtype of the settings."""
    kwargs = {"selection": settings.selection} if settings.selection else {}
    device, dtype = PartialState().device, getattr(torch, settings.dtype)
    if is_slow(dtype, device):
        dtype = torch.float32
    tokenizer = LaVITVisualTokenizer.from_pretrained(settings.visual_tokenizer, dtype=dtype, **kwargs)
    return tokenizer.to(device).eval()


__all__ = ["PretokenizeRun", "PretokenizeSettings"]

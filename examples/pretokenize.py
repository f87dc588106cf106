# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Images -> codes and what is read of them, in parquet shards, so that stage 2 never runs the encoder.

    accelerate launch examples/pretokenize.py examples/runs/emoji_pretokenize.yaml

Any number of processes and hosts share the work. Cut short, it goes on with the first shard that is missing.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import torch
from accelerate import PartialState

from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer
from lavit_hf.training.data import load_split
from lavit_hf.training.pretokenizing import Pretokenizer
from lavit_hf.training.settings import load_function, load_settings
from lavit_hf.training.shards import write_shards


FREE_TO_CHANGE = ("output", "splits", "use_cpu")  # the rest decides what the shards hold


@dataclass
class PretokenizeSettings:
    """What is tokenized, and how."""

    visual_tokenizer: str = field(metadata={"help": "Path or Hub id of the trained tokenizer."})
    dataset: str = field(metadata={"help": "Pictures with texts, or features that were computed before."})
    output: str = field(metadata={"help": "Folder for the shards; each split has a folder in it."})
    splits: list[str] = field(default_factory=lambda: ["train"])
    rows: str = field(
        default="features", metadata={"help": "Kept for reading: the encoder's `features`, `merged` rows, or `none`."}
    )
    selection: str | None = field(default=None, metadata={"help": "How patches are kept; as saved by default."})
    image_column: str = "image"
    text_column: str | None = field(default=None, metadata={"help": "The texts' column where it is not called text."})
    features_column: str = field(default="features", metadata={"help": "Used in place of pictures where it exists."})
    keep_columns: list[str] = field(default_factory=list, metadata={"help": "Columns to keep besides the texts."})
    text_function: str | None = field(
        default=None, metadata={"help": "`file.py:function` that makes `texts` and `prompts` of a row."}
    )
    patch_choice: str | None = field(
        default=None, metadata={"help": "Experiment: `file.py:function` that chooses patches in the selector's place."}
    )
    dtype: str = field(default="float32", metadata={"help": "The tokenizer's."})
    use_cpu: bool = field(default=False, metadata={"help": "Needed where several processes have no accelerator."})
    batch_size: int = 64
    rows_per_shard: int = 1024
    seed: int = 0


def load_tokenizer(settings: PretokenizeSettings) -> LaVITVisualTokenizer:
    """The trained tokenizer, where it is to run."""
    kwargs = {"selection": settings.selection} if settings.selection else {}
    tokenizer = LaVITVisualTokenizer.from_pretrained(
        settings.visual_tokenizer, dtype=getattr(torch, settings.dtype), **kwargs
    )
    return tokenizer.to(PartialState().device).eval()


def describe(settings: PretokenizeSettings, split: str, visual_tokenizer: LaVITVisualTokenizer) -> dict:
    """What the shards depend on; a tokenizer that was trained again in its old folder is another one."""
    described = {name: value for name, value in asdict(settings).items() if name not in FREE_TO_CHANGE}
    codebook = visual_tokenizer.quantizer.codebook.weight.detach().float().cpu().numpy()
    return {**described, "split": split, "codebook": hashlib.sha256(codebook.tobytes()).hexdigest()}


def main() -> None:
    """Tokenize all splits."""
    (settings,) = load_settings(PretokenizeSettings)
    state = PartialState(cpu=settings.use_cpu)
    visual_tokenizer = load_tokenizer(settings)
    image_processor = LaVITImageProcessor.from_pretrained(settings.visual_tokenizer)
    for split in settings.splits:
        with state.main_process_first():
            dataset = load_split(settings.dataset, split)
        if settings.text_column in dataset.column_names:
            dataset = dataset.rename_column(settings.text_column, "text")
        pretokenizer = Pretokenizer(
            visual_tokenizer,
            dataset,
            image_processor,
            rows=settings.rows,
            image_column=settings.image_column,
            features_column=settings.features_column,
            keep_columns=settings.keep_columns,
            make_texts=load_function(settings.text_function) if settings.text_function else None,
            choose_patches=load_function(settings.patch_choice) if settings.patch_choice else None,
            batch_size=settings.batch_size,
            seed=settings.seed,
        )
        output = Path(settings.output) / split
        write_shards(
            len(dataset),
            pretokenizer.encode,
            output,
            pretokenizer.schema,
            describe(settings, split, visual_tokenizer),
            settings.rows_per_shard,
        )
        if state.is_main_process:
            written = sum(pq.read_metadata(shard).num_rows for shard in output.glob("part-*.parquet"))
            print(f"{split}: {written} rows in {output}, {len(dataset) - written} pictures left out")


if __name__ == "__main__":
    main()

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Trains the text tokenizer of a new language model on the captions of a dataset.

    python examples/train_text_tokenizer.py examples/runs/toy_text_tokenizer.yaml
"""

from dataclasses import dataclass, field

from lavit_hf.lavit.atomic_saving import atomic_update
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.settings import load_settings
from lavit_hf.training.text_tokenizer import train_tokenizer


@dataclass
class TextTokenizerSettings:
    """Settings of the tokenizer and its data."""

    dataset: str = field(metadata={"help": "Dataset with texts."})
    output: str = field(metadata={"help": "Folder for the tokenizer."})
    train_split: str = "train"
    text_column: str = "text"
    vocab_size: int = field(default=32000, metadata={"help": "Maximum number of ids."})


def main() -> None:
    """Train the tokenizer, and print the mean number of ids per text."""
    (settings,) = load_settings(TextTokenizerSettings)
    data = load_split(settings.dataset, settings.train_split)
    if settings.text_column not in data.column_names:
        raise TrainingError(
            f"{settings.dataset} has no column {settings.text_column!r}, only {', '.join(data.column_names)}."
        )
    texts = list(data[settings.text_column])
    tokenizer = train_tokenizer(texts, settings.vocab_size)
    with atomic_update(settings.output) as folder:
        tokenizer.save_pretrained(folder)
    num_ids = sum(map(len, tokenizer(texts).input_ids))
    print(f"{len(tokenizer)} ids, {num_ids / len(texts):.1f} per text on average, in {settings.output}")


if __name__ == "__main__":
    run_script(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Trains the small language model's text tokenizer on all texts about the training drawings and sheets.

    python examples/emoji/text_tokenizer.py --data .cache/emoji/set --output .cache/emoji/text-tokenizer
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from datasets import Dataset, load_from_disk

from lavit_emoji.dataset.texts import prompts, sheet_texts, training_texts
from lavit_hf.lavit.atomic_saving import atomic_update
from lavit_hf.training.text_tokenizer import train_tokenizer


def written_texts(rows: Iterable[Mapping]) -> list[str]:
    """Names, keywords, questions and answers of all rows, without duplicates."""
    return list(
        dict.fromkeys(text for row in rows for text in (*training_texts(row), *prompts(row), *row["keywords"]))
    )


def written_on_sheets(sheets: Dataset) -> list[str]:
    """Captions, questions and answers of sheets, without duplicates."""
    rows = sheets.select_columns(["caption", "questions", "answers"]).rename_column("caption", "name")
    return list(dict.fromkeys(text for row in rows for text in sheet_texts(row)))


def main(
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the tokenizer.")],
    sheets: Annotated[Path | None, typer.Option(help="Output of prepare_sheets.py, to add its texts.")] = None,
    vocab_size: Annotated[int, typer.Option(help="Number of ids.")] = 1500,
) -> None:
    """Train the tokenizer on the train split."""
    columns = ["name", "keywords", "category", "subcategory"]
    texts = written_texts(load_from_disk(data)["train"].select_columns(columns))
    if sheets is not None:
        texts += written_on_sheets(load_from_disk(sheets)["train"])
    tokenizer = train_tokenizer(texts, vocab_size)
    with atomic_update(output) as folder:
        tokenizer.save_pretrained(folder)
    num_ids = sum(len(ids) for ids in tokenizer(texts)["input_ids"])
    print(f"{len(tokenizer)} ids from {len(texts)} texts, {num_ids / len(texts):.1f} per text on average, in {output}")


if __name__ == "__main__":
    typer.run(main)

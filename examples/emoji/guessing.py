# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures how many questions about sheets can be answered from the words of the question alone, without the image.

    python examples/emoji/guessing.py --sheets .cache/emoji/sheets
"""

from pathlib import Path
from typing import Annotated

import typer
from datasets import load_from_disk

from lavit_emoji.measures.guessing import score_guesses


def main(
    sheets: Annotated[Path, typer.Option(help="Output of prepare_sheets.py.")],
    split: Annotated[str, typer.Option(help="Split with the questions to answer.")] = "test_drawings",
) -> None:
    """Learn from the train split, and print the accuracy of guessing."""
    columns = ["kinds", "questions", "answers"]
    train, test = (load_from_disk(sheets)[name].select_columns(columns) for name in ("train", split))
    print(f"{'subject':12}{'number':>8}{'most frequent':>15}{'by words':>10}")
    for kind, score in score_guesses(train, test).items():
        print(f"{kind:12}{score['number']:8}{score['most_frequent']:15.2f}{score['by_words']:10.2f}")


if __name__ == "__main__":
    typer.run(main)

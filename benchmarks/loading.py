# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Measures how long it takes to load the processor of a full-size LaVIT, whose tokenizer has 16,384 image tokens."""

import tempfile
from pathlib import Path

from timing import median_seconds, print_machine, print_table

from lavit_hf import LaVITImageProcessorPil, LaVITProcessor, build_tokenizer, load_sentencepiece_tokenizer


TOKENIZER = Path(__file__).parents[1] / "modeling_tests" / "golden" / "original" / "language_model"


def main() -> None:
    """Save a processor and time how long it takes to load."""
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = build_tokenizer(load_sentencepiece_tokenizer(TOKENIZER), codebook_size=16384)
        LaVITProcessor(LaVITImageProcessorPil(), tokenizer).save_pretrained(folder)
        seconds = median_seconds({"load": lambda: LaVITProcessor.from_pretrained(folder)}, repeats=5)
    print_table(("vocabulary", "seconds"), [(str(len(tokenizer)), f"{seconds['load']:.2f}")])


if __name__ == "__main__":
    main()

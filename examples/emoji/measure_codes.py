# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Ablation step: measures how well the codes of a trained tokenizer reconstruct the encoder's features of sheets."""

from dataclasses import dataclass
from pathlib import Path

from evaluate_codes import code_figures, load_run
from lavit_emoji.measures.ablation_steps import write_figures
from lavit_emoji.measures.keeping import encode
from lavit_hf import LaVITImageProcessor
from lavit_hf.training.data import load_split
from lavit_hf.training.settings import load_settings


@dataclass
class Settings:
    """Settings of the step."""

    tokenizer: str
    sheets: str
    output: str
    split: str = "validation"
    seed: int = 0


def main() -> None:
    """Run the step and write its figures."""
    (settings,) = load_settings(Settings)
    model = load_run(Path(settings.tokenizer))
    image_processor = LaVITImageProcessor.from_pretrained(settings.tokenizer)
    sheets = encode(load_split(settings.sheets, settings.split), model.visual_tokenizer, image_processor)
    write_figures(code_figures(model, sheets, settings.seed), settings.output)


if __name__ == "__main__":
    main()

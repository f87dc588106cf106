# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Ablation step: measures which patches of sheets a trained selector keeps."""

from dataclasses import dataclass

from evaluate_selection import rebuilt_figures
from lavit_emoji.measures.ablation_steps import write_figures
from lavit_emoji.measures.keeping import encode, kept_figures, select
from lavit_hf import LaVITImageProcessor, LaVITTokenSelectionForPreTraining
from lavit_hf.training.data import load_split
from lavit_hf.training.settings import load_settings


@dataclass
class Settings:
    """Settings of the step."""

    selection: str
    sheets: str
    output: str
    split: str = "validation"
    seed: int = 0


def main() -> None:
    """Run the step and write its figures."""
    (settings,) = load_settings(Settings)
    model = LaVITTokenSelectionForPreTraining.from_pretrained(settings.selection).eval()
    image_processor = LaVITImageProcessor.from_pretrained(settings.selection)
    sheets = encode(load_split(settings.sheets, settings.split), model.visual_tokenizer, image_processor)
    masks, probs = select(model.visual_tokenizer, sheets.features)
    figures = kept_figures(masks, probs, sheets)
    cosines = rebuilt_figures(model, probs, sheets, settings.seed)
    write_figures(
        {
            "drawn": figures["kept"]["drawn"],
            "far": figures["kept"]["far"],
            "undecided": figures["undecided"],
            "count": figures["count"],
            "count_to_drawn_area": figures["count_to_drawn_area"],
            "selected": cosines["selected"],
            "random": cosines["random"],
        },
        settings.output,
    )


if __name__ == "__main__":
    main()

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures reconstruction and captions of held-out drawings with 4 to 64 tokens per drawing, as set with `keep_ratio`,
`keep_error` and `keep_threshold`.

    python examples/emoji/dial.py --model .cache/emoji/lavit-emoji --data .cache/emoji/set --output dial

Writes `dial.json`, `dial.md` (a table) and `dial.png` (plots) to the output folder. For a visual tokenizer from stage
1, only the reconstruction is measured.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import torch
import typer

from lavit_emoji.measures.curves import draw_curves
from lavit_emoji.measures.keeping import load_detokenizer
from lavit_emoji.measures.looking import batches
from lavit_emoji.measures.reading import Drawings, Reader, name_figures
from lavit_hf import LaVITForCausalLM, LaVITImageProcessor, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.training.data import load_split


COUNTS = (4, 8, 12, 16, 21, 32, 48, 64)
ERRORS = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25)
THRESHOLDS = (0.9, 0.7, 0.5, 0.3, 0.1, 0.03, 0.01)
AS_TRAINED = "as trained"
BATCH_SIZE = 32
COLUMNS = {
    "tokens": "tokens",
    "spread": "spread",
    "cosine": "cosine",
    "reached": "reach the error",
    "exact": "caption exact",
    "right_keyword": "right keyword",
    "tokenizing_seconds": "s, tokenizing",
    "caption_seconds": "s, caption",
}


@dataclass
class Subject:
    """
    The model and the drawings that it is measured on.

    Args:
        folder (`Path`): A repo, or a checkpoint from stage 1.
        drawings ([`Drawings`]): The drawings.
        seed (`int`): Seed for selection rules that sample.
    """

    folder: Path
    drawings: Drawings
    seed: int

    @cached_property
    def reader(self) -> Reader | None:
        """Writes captions; `None` for a visual tokenizer."""
        if json.loads((self.folder / "config.json").read_text())["model_type"] != "lavit":
            return None
        model = LaVITForCausalLM.from_pretrained(self.folder, dtype="float32").eval()
        return Reader(model, LaVITProcessor.from_pretrained(self.folder), BATCH_SIZE)

    @cached_property
    def tokenizer(self) -> LaVITVisualTokenizer:
        tokenizer = (
            LaVITVisualTokenizer.from_pretrained(self.folder, dtype="float32").eval()
            if self.reader is None
            else self.reader.model.visual_tokenizer
        )
        detokenizer = load_detokenizer(self.folder, tokenizer)
        if detokenizer is None:
            raise typer.BadParameter(f"{self.folder} has no detokenizer, which reconstructs the features.")
        tokenizer.attach_detokenizer(detokenizer)
        return tokenizer

    @cached_property
    @torch.no_grad()
    def features(self) -> torch.Tensor:
        """The encoder's features of all drawings, `(num_drawings, num_patches, feature_size)`."""
        processor = LaVITImageProcessor.from_pretrained(self.folder)
        pixel_values = (processor(images, return_tensors="pt").pixel_values for images in self._batches())
        return torch.cat([self.tokenizer.encode(batch).last_hidden_state for batch in pixel_values])

    def measure(self, **keep_settings: float) -> dict[str, float]:
        """The figures for one setting. Seconds are CPU time per drawing; only those for captions include encoding."""
        torch.manual_seed(self.seed)
        start = time.process_time()
        with torch.no_grad():
            outputs = [self.tokenizer.tokenize(batch, **keep_settings) for batch in self.features.split(BATCH_SIZE)]
        seconds = (time.process_time() - start) / len(self.features)
        masks = torch.cat([output.keep_mask for output in outputs])
        counts = masks.sum(dim=1).float()
        parts = zip(self.features.split(BATCH_SIZE), masks.split(BATCH_SIZE), strict=True)
        errors = [self.tokenizer.rebuild_errors(*part) for part in parts]
        figures = {
            "tokens": counts.mean().item(),
            "spread": counts.std(correction=0).item(),
            "cosine": 1 - torch.cat(errors).mean().item(),
            "tokenizing_seconds": seconds,
        }
        if "keep_error" in keep_settings:
            figures["reached"] = torch.cat([output.reaches_keep_error for output in outputs]).float().mean().item()
        return figures | ({} if self.reader is None else self._captions(keep_settings))

    def _captions(self, keep_settings: Mapping[str, float]) -> dict[str, float]:
        torch.manual_seed(self.seed)
        start = time.process_time()
        captions = self.reader.caption(self.drawings.images, **keep_settings)
        seconds = (time.process_time() - start) / len(captions)
        scores = name_figures(captions, self.drawings)["all"]
        return {"exact": scores["exact"], "right_keyword": scores["right_keyword"], "caption_seconds": seconds}

    def _batches(self) -> Sequence[Sequence]:
        return batches(self.drawings.images, BATCH_SIZE)


def settings_to_measure(num_patches: int) -> list[dict[str, float]]:
    """The checkpoint's own selection rule, followed by all values of the keep arguments."""
    ratios = [{"keep_ratio": count / num_patches} for count in COUNTS if count <= num_patches]
    return [
        {},
        *ratios,
        *({"keep_error": error} for error in ERRORS),
        *({"keep_threshold": value} for value in THRESHOLDS),
    ]


def name_of(settings: Mapping[str, float]) -> str:
    """The name of a setting, such as `keep_ratio=0.25`."""
    return next((f"{name}={value:.3g}" for name, value in settings.items()), AS_TRAINED)


def format_table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table with one row per setting; columns without any values are left out."""
    columns = [name for name in COLUMNS if any(name in line for line in figures.values())]
    head = ["setting", *(COLUMNS[name] for name in columns)]
    rows = [
        [name, *(f"{line[column]:.3f}" if column in line else "" for column in columns)]
        for name, line in figures.items()
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def curves_of(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The points `(tokens, quantity)` by quantity and keep argument."""
    panels = {}
    titles = {
        "cosine": "cosine of rebuilt features",
        "exact": "exact captions",
        "caption_seconds": "seconds per caption",
    }
    for column, title in titles.items():
        curves: dict[str, list[tuple[float, float]]] = {}
        for name, line in figures.items():
            if column in line:
                curves.setdefault(name.split("=")[0], []).append((line["tokens"], line[column]))
        if curves:
            panels[title] = curves
    return panels


def main(
    model: Annotated[Path, typer.Option(help="Repo with a pixel decoder, or a checkpoint from stage 1.")],
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the table, figures and plots.")],
    split: Annotated[str, typer.Option(help="Split to measure on.")] = "test_drawings",
    limit: Annotated[int | None, typer.Option(help="Maximum number of drawings, for a trial run.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed, for selection rules that sample.")] = 0,
) -> None:
    """Measure all settings, and write a table and plots."""
    rows = load_split(str(data), split)
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    subject = Subject(model, Drawings.of(rows), seed)
    figures = {}
    for settings in settings_to_measure(subject.tokenizer.config.num_patches):
        figures[name_of(settings)] = subject.measure(**settings)
        print(name_of(settings), {name: round(value, 3) for name, value in figures[name_of(settings)].items()})
    output.mkdir(parents=True, exist_ok=True)
    told = {"split": split, "number": len(rows), "seed": seed, "figures": figures}
    for name, text in (("dial.json", json.dumps(told, indent=2) + "\n"), ("dial.md", format_table(figures))):
        with atomic_file(output / name) as file:
            file.write_text(text)
    with atomic_file(output / "dial.png") as file:
        draw_curves(curves_of(figures), "tokens per drawing").savefig(file, format="png", dpi=120)


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Evaluates a LaVIT trained on emoji on held-out drawings and sheets: writes figures and contact sheets.

    python examples/emoji/evaluate.py --model .cache/emoji/lavit-emoji --data .cache/emoji/set \
        --sheets .cache/emoji/sheets --output .cache/emoji/evaluation

An interrupted run resumes with the part where it stopped. `--only captions` measures a single part. Parts that don't
apply to a model are left out: `pictures` and `seconds` for a repo without a pixel decoder, and all parts except `kept`
for a visual tokenizer from stage 1.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer
from datasets import Dataset, DatasetDict, disable_progress_bars, load_from_disk
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from lavit_emoji.dataset.everyday import everyday_concepts
from lavit_emoji.measures.keeping import encode, kept_figures, load_detokenizer, rebuilt_figures, select
from lavit_emoji.measures.looking import ClassMeans, Looker, averaged, name_of
from lavit_emoji.measures.painting import Painter, make_judge, pair_figures, picture_figures
from lavit_emoji.measures.reading import Drawings, Reader, name_figures, read_photographs, sheet_figures
from lavit_emoji.measures.seconds import second_figures
from lavit_emoji.measures.targets import PARTS
from lavit_hf import LaVITForCausalLM, LaVITImageProcessor, LaVITPipeline, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.evaluation.identity import check_same, digest_weights
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.tasks.failures import Failure


# The splits of drawings and sheets to measure on: validation splits are for choosing settings, test splits for
# reporting, and a sample of the train split shows how much of what the model can do is memorized.
CAPTIONED = ("train", "validation", "validation_artist", "test_drawings", "test_concepts")
ASKED = ("train", "validation", "test_drawings")
KEPT = ("validation", "validation_one_size", "test_drawings", "test_drawings_one_size")
TRAIN_SAMPLE = 1000  # drawings, and as many sheets
PHOTOGRAPHS = Path(__file__).parents[1] / "images"
FILE_NAME = "evaluation.json"


class Evaluation:
    """
    Measures a LaVIT part by part, and loads models only when they are needed.

    Args:
        model (`Path`): The repo.
        data (`Path`): Output of `prepare.py`.
        sheets (`Path`): Output of `prepare_sheets.py`.
        output (`Path`): Folder for contact sheets.
        cache (`Path`): Folder for the encoder's features of the training drawings.
        seed (`int`, *optional*, defaults to 0): Random seed.
        limit (`int`, *optional*): Maximum number of drawings or sheets per split, for a trial run.
    """

    def __init__(
        self,
        model: Path,
        data: Path,
        sheets: Path,
        output: Path,
        cache: Path,
        seed: int = 0,
        limit: int | None = None,
    ):
        self.model, self.output, self.cache, self.seed, self.limit = model, output, cache, seed, limit
        self.set, self.sheets = load_from_disk(data), load_from_disk(sheets)

    # The parts.

    @cached_property
    def parts(self) -> list[str]:
        """The parts that apply to this repo."""
        if json.loads((self.model / "config.json").read_text())["model_type"] == "lavit_visual_tokenizer":
            return ["kept"]
        paints = (self.model / LaVITPipeline.config_name).is_file()
        return [name for name in PARTS if paints or name not in ("pictures", "seconds")]

    def rows(self, dataset: dict[str, Dataset], split: str) -> Dataset:
        """A split, or a sample if it is the train split; only the first rows if there is a limit."""
        rows = self._train_sample(dataset) if split == "train" else dataset[split]
        return rows if self.limit is None else rows.select(range(min(self.limit, len(rows))))

    def _train_sample(self, dataset: dict[str, Dataset]) -> Dataset:
        """Random rows of the train split. Drawings are by the artists of the test split, so that both are alike."""
        rows = dataset["train"]
        if "style" in rows.column_names:
            artists = set(dataset["test_drawings"]["style"])
            rows = rows.filter(artists.__contains__, input_columns="style")
        return rows.shuffle(seed=self.seed).select(range(min(TRAIN_SAMPLE, len(rows))))

    def captions(self) -> dict:
        """Captions of drawings, and of photographs."""
        figures = {split: self._names(split) for split in CAPTIONED}
        return figures | {"photographs": dict(read_photographs(self.reader, PHOTOGRAPHS))}

    def stranger(self) -> dict:
        """Captions of drawings by an artist who was used neither for training nor for choosing settings."""
        return self._names("stranger")

    def questions(self) -> dict:
        """Captions of sheets, and questions about them."""
        train = self.sheets["train"]
        return {split: sheet_figures(self.reader, self.rows(self.sheets, split), train) for split in ASKED}

    def kept(self) -> dict:
        """Kept patches of sheets, and reconstruction from their codes."""
        return {split: self._kept(split) for split in KEPT}

    def pictures(self) -> dict:
        """Images generated from names and captions of sheets, and reconstructions of drawings."""
        judge = make_judge(self.looker, self.set["train"], self.pipeline.picture_size)
        painter = Painter(self.pipeline, self.seed)
        everyday = set(everyday_concepts().values()) & set(judge.names)
        rows = self.rows(self.set, "test_drawings")
        return {
            "names": {"all": len(judge.names), "everyday": len(everyday)},
            **picture_figures(painter, judge, Drawings.of(rows), everyday, self.output),
            "sheets_of_two": pair_figures(painter, judge, self.rows(self.sheets, "test_drawings"), self.output),
        }

    def seconds(self) -> dict:
        """CPU time for a caption and for an image."""
        return second_figures(self.model, self.reader, self.pipeline, PHOTOGRAPHS / "emoji" / "rocket.png")

    def _names(self, split: str) -> dict:
        drawings = Drawings.of(self.rows(self.set, split))
        said = {
            "model": self.reader.caption(drawings.images),
            "probe": self.probe(averaged(self.looker(drawings.images))),
        }
        return {name: name_figures(texts, drawings) for name, texts in said.items()}

    def _kept(self, split: str) -> dict:
        known = encode(self.rows(self.sheets, split), self.tokenizer, self.image_processor)
        kept, probs = select(self.tokenizer, known.features)
        detokenizer = load_detokenizer(self.model, self.tokenizer)
        rebuilt = {} if detokenizer is None else rebuilt_figures(self.tokenizer, detokenizer, kept, known, self.seed)
        return kept_figures(kept, probs, known) | ({"rebuilt": rebuilt} if rebuilt else {})

    # Models and features.

    @cached_property
    def tokenizer(self) -> LaVITVisualTokenizer:
        return LaVITVisualTokenizer.from_pretrained(self.model, dtype="float32").eval()

    @cached_property
    def image_processor(self) -> LaVITImageProcessor:
        return LaVITImageProcessor.from_pretrained(self.model)

    @cached_property
    def language_model(self) -> LaVITForCausalLM:
        return LaVITForCausalLM.from_pretrained(self.model, dtype="float32").eval()

    @cached_property
    def reader(self) -> Reader:
        return Reader(self.language_model, LaVITProcessor.from_pretrained(self.model))

    @cached_property
    def pipeline(self) -> LaVITPipeline:
        loaded = {"language_model": self.language_model, "processor": self.reader.processor}
        pipeline = LaVITPipeline.from_pretrained(self.model, **loaded, dtype=self.language_model.dtype)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @cached_property
    def looker(self) -> Looker:
        return Looker(self.tokenizer, self.image_processor, self.cache)

    @cached_property
    def probe(self) -> ClassMeans:
        rows = self.set["train"]
        looks = self.looker.remember(name_of("train", rows), lambda: rows["image"])
        return ClassMeans(averaged(looks), list(rows["name"]))


def read_figures(path: Path, settings: dict) -> dict:
    """
    Reads the figures of a previous run, if any.

    Args:
        path (`Path`): File with the figures, which may not exist yet.
        settings (`dict`): Model, data and settings that the figures must have been measured with.

    Returns:
        `dict`: The settings, and the parts measured so far.

    Raises:
        `Failure`: If they were measured for another model, or with other data or settings.
    """
    if not path.is_file():
        return dict(settings)
    figures = json.loads(path.read_text())
    check_same(path, figures, settings)
    return figures


def digest_rows(splits: DatasetDict, column: str) -> str:
    """A short digest of the texts in a column of all splits, or of the number of rows where a split lacks it."""
    sums = hashlib.sha256()
    for name in sorted(splits):
        rows = splits[name]
        texts = rows[column][:] if column in rows.column_names else len(rows)
        sums.update(json.dumps([name, texts]).encode())
    return sums.hexdigest()[:12]


def write_figures(path: Path, figures: dict) -> None:
    """Writes the file atomically, replacing an existing one."""
    with atomic_file(path) as file:
        file.write_text(json.dumps(rounded(figures), indent=2) + "\n")


def rounded(figures):
    """Rounds figures to four decimal places, which is finer than 1,000 drawings can resolve."""
    if isinstance(figures, dict):
        return {name: rounded(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return [rounded(value) for value in figures]
    return round(figures, 4) if isinstance(figures, float) else figures


def measure(evaluation: Evaluation, wanted: Sequence[str], again: bool = False) -> dict:
    """
    Measures parts, and writes the file after each of them.

    Args:
        evaluation ([`Evaluation`]): The evaluation.
        wanted (`Sequence[str]`): Names of the parts to measure.
        again (`bool`, *optional*, defaults to `False`): Whether to measure parts again that are already in the file.

    Returns:
        `dict`: All figures in the file.

    Raises:
        `Failure`: If the existing file is from another model, or other data or settings.
    """
    path = evaluation.output / FILE_NAME
    settings = {
        "model": digest_weights(evaluation.model),
        "data": digest_rows(evaluation.set, "name"),
        "sheets": digest_rows(evaluation.sheets, "caption"),
        "seed": evaluation.seed,
        "limit": evaluation.limit,
    }
    figures = read_figures(path, settings)
    for name in wanted:
        if again or name not in figures:
            started = time.process_time()
            figures[name] = getattr(evaluation, name)()
            write_figures(path, figures)
            print(f"{name}: {time.process_time() - started:.0f} s of CPU time", flush=True)
    return figures


def parse_parts(only: str | None, parts: Sequence[str]) -> list[str]:
    """
    Parses a comma-separated list of parts; all parts if it is empty.

    Raises:
        `ValueError`: If a part doesn't apply to the repo.
    """
    wanted = only.split(",") if only else list(parts)
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        raise ValueError(f"this repo has no part {unknown[0]!r} to measure, only {', '.join(parts)}.")
    return wanted


def main(
    model: Annotated[Path, typer.Option(help="Repo to evaluate.")],
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    sheets: Annotated[Path, typer.Option(help="Output of prepare_sheets.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the figures and the contact sheets.")],
    only: Annotated[
        str | None, typer.Option(help=f"Parts to measure, separated by commas: {', '.join(PARTS)}; all by default.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Measure parts again that are already in the file.")] = False,
    cache: Annotated[Path, typer.Option(help="Folder to cache features of drawings in.")] = Path(".cache/emoji/looks"),
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    limit: Annotated[
        int | None, typer.Option(min=2, help="Maximum number of rows per split, for a trial run.")
    ] = None,
) -> None:
    """Evaluate on held-out drawings and sheets, and write `evaluation.json`."""
    for disable_bars in (
        disable_progress_bars,
        diffusers_logging.disable_progress_bar,
        transformers_logging.disable_progress_bar,
    ):
        disable_bars()
    try:
        evaluation = Evaluation(model, data, sheets, output, cache, seed, limit)
        output.mkdir(parents=True, exist_ok=True)
        measure(evaluation, parse_parts(only, evaluation.parts), again)
    except (Failure, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    typer.run(main)

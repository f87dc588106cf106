# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks, with their kinds, protocols and annotation files."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..tasks.failures import Failure
from . import annotations, protocols, rows
from .samples import Samples


class Kind(str, Enum):
    """Kind of output that a benchmark evaluates."""

    captions = "captions"
    questions = "questions"
    pictures = "pictures"


class Layout(str, Enum):
    """Folder layout of generated images."""

    flat = "flat"
    geneval = "geneval"
    dpg_bench = "dpg-bench"


@dataclass(frozen=True)
class Benchmark:
    """
    A task of `lavit eval`.

    Args:
        kind (`Kind`):
            Kind of output that it evaluates.
        protocols (`dict`):
            The available protocols.
        files (`tuple[str, ...]`, *optional*):
            Names of its annotation files, as globs. Empty if it has no files of its own.
        read (`Callable`, *optional*):
            Reads samples from these files.
        limit (`int`, *optional*):
            Number of samples used for published results.
        layout (`Layout`, *optional*):
            Folder layout of its generated images.
        pictures_per_prompt (`int`, *optional*, defaults to 1):
            Number of images to generate per prompt.
        scored (`bool`, *optional*, defaults to `True`):
            Whether it is scored here instead of by the benchmark's own scorer.
    """

    kind: Kind
    protocols: dict
    files: tuple[str, ...] = ()
    read: Callable[[list[Path], Path, str, int], Samples] | None = None
    limit: int | None = None
    layout: Layout = Layout.flat
    pictures_per_prompt: int = 1
    scored: bool = True


BENCHMARKS = {
    "coco": Benchmark(Kind.captions, protocols.CAPTIONS, ("dataset_coco.json",), annotations.read_karpathy_split),
    "nocaps": Benchmark(
        Kind.captions, protocols.CAPTIONS, ("nocaps_val_4500_captions.json",), annotations.read_coco_captions
    ),
    "flickr30k": Benchmark(
        Kind.captions, protocols.CAPTIONS, ("dataset_flickr30k.json",), annotations.read_karpathy_split
    ),
    "captions": Benchmark(Kind.captions, protocols.CAPTIONS),
    "vqav2": Benchmark(
        Kind.questions,
        protocols.QUESTIONS,
        ("v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"),
        annotations.read_vqa,
    ),
    "okvqa": Benchmark(
        Kind.questions,
        protocols.QUESTIONS,
        ("OpenEnded_mscoco_val2014_questions.json", "mscoco_val2014_annotations.json"),
        annotations.read_vqa,
    ),
    "gqa": Benchmark(Kind.questions, protocols.QUESTIONS, ("testdev_balanced_questions.json",), annotations.read_gqa),
    "vizwiz": Benchmark(Kind.questions, protocols.ANSWERABLE_QUESTIONS, ("val.json",), annotations.read_vizwiz),
    "questions": Benchmark(Kind.questions, protocols.QUESTIONS),
    "coco-images": Benchmark(
        Kind.pictures, protocols.PICTURES, ("captions_val2014.json",), annotations.read_coco_prompts, limit=30_000
    ),
    "images": Benchmark(Kind.pictures, protocols.PICTURES),
    "geneval": Benchmark(
        Kind.pictures,
        protocols.PICTURES,
        ("evaluation_metadata.jsonl",),
        annotations.read_geneval,
        layout=Layout.geneval,
        pictures_per_prompt=4,
        scored=False,
    ),
    "dpg-bench": Benchmark(
        Kind.pictures,
        protocols.PICTURES,
        ("*.txt",),
        annotations.read_dpg_bench,
        layout=Layout.dpg_bench,
        pictures_per_prompt=4,
        scored=False,
    ),
}
DEFAULT_SPLIT = "test"

_ANNOTATION_FOLDERS = ("", "annotations", "prompts")
_ROW_READERS = {
    Kind.captions: rows.read_caption_rows,
    Kind.questions: rows.read_question_rows,
    Kind.pictures: rows.read_prompt_rows,
}


def find_benchmark(task: str) -> Benchmark:
    """Returns the benchmark with this name. Raises a [`Failure`] if there is none."""
    if task not in BENCHMARKS:
        raise Failure(f"there is no task {task!r}, only {', '.join(BENCHMARKS)}.")
    return BENCHMARKS[task]


def read_samples(task: str, data: Path, split: str | None, column: str | None, seed: int) -> Samples:
    """
    Reads the samples of a benchmark.

    Args:
        task (`str`):
            Name of the benchmark.
        data (`Path`):
            A folder with its annotation files and images, or a folder of the `datasets` library.
        split (`str`, *optional*):
            The split, if the data has several.
        column (`str`, *optional*):
            Column of the texts, for folders of `datasets`.
        seed (`int`):
            Random seed.

    Raises:
        Failure: If the folder is neither of these, annotations and images do not match, or there are no samples.
    """
    benchmark = find_benchmark(task)
    if not data.is_dir():
        raise Failure(f"there is no folder {data}.")
    files = _find_files(data, benchmark.files)
    if files:
        samples = _read_files(benchmark, files, data, split or DEFAULT_SPLIT, seed)
    elif rows.is_dataset(data):
        samples = _ROW_READERS[benchmark.kind](rows.load_rows(data, split or DEFAULT_SPLIT), column)
    else:
        files = f"neither {' and '.join(benchmark.files)} nor" if benchmark.files else "no"
        raise Failure(f"{data} contains {files} data that the datasets library reads.")
    if not samples.rows:
        raise Failure(f"{data} has nothing in the split {split or DEFAULT_SPLIT!r}.")
    _check_samples(samples, benchmark.kind)
    return samples


def _check_samples(samples: Samples, kind: Kind) -> None:
    seen = set()
    for sample in samples.rows:
        texts = (sample.text,) if kind is Kind.pictures else sample.references
        if kind is not Kind.questions:  # whose answers may be empty
            texts = [text for text in texts if text and text.strip()]
        if not texts:
            lacks = "no prompt" if kind is Kind.pictures else "nothing to compare with"
            raise Failure(f"the sample {sample.id!r} has {lacks}. Remove it.")
        if sample.id in seen:
            raise Failure(f"two samples have the id {sample.id!r}, so their answers could not be told apart.")
        seen.add(sample.id)


def _find_files(data: Path, names: tuple[str, ...]) -> list[Path]:
    for folder in (data / name for name in _ANNOTATION_FOLDERS):
        found = [sorted(folder.glob(name)) for name in names]
        if found and all(found):
            return [file for files in found for file in files]
    return []


def _read_files(benchmark: Benchmark, files: list[Path], data: Path, split: str, seed: int) -> Samples:
    try:
        return benchmark.read(files, data, split, seed)
    except (KeyError, TypeError, AttributeError) as error:
        raise annotations.naming_file(files, error) from error

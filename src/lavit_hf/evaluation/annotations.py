# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reads samples from the benchmarks' annotation files."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..tasks.failures import Failure
from ..tasks.images import read_image
from .picture_folder import PictureFolder
from .samples import Sample, Samples


COCO_NAME = "COCO_{subset}_{image_id:012d}.jpg"


def read_karpathy_split(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads captions in the format of Karpathy's splits: `dataset_coco.json`, `dataset_flickr30k.json`."""
    images = [image for image in _load(files[0])["images"] if image["split"] == split]
    names = [
        f"{image['filepath']}/{image['filename']}" if "filepath" in image else image["filename"] for image in images
    ]
    paths = PictureFolder(data).find(names)
    return _with_files(
        [
            Sample(
                str(image.get("cocoid", image["imgid"])),
                path,
                references=tuple(sentence["raw"] for sentence in image["sentences"]),
            )
            for image, path in zip(images, paths)
        ]
    )


def read_coco_captions(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads captions in COCO's format, which NoCaps also uses. The kinds are NoCaps' domains."""
    content = _load(files[0])
    references: dict[Any, list[str]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in references:
            raise Failure(f"{files[0]} has a caption for image {annotation['image_id']}, but no such image.")
        references[annotation["image_id"]].append(annotation["caption"])
    paths = PictureFolder(data).find([image["file_name"] for image in content["images"]])
    return _with_files(
        [
            Sample(str(image["id"]), path, references=tuple(references[image["id"]]), kind=image.get("domain"))
            for image, path in zip(content["images"], paths)
        ]
    )


def read_coco_prompts(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads a random caption of each image in COCO's format as a prompt, to compare the generated image with it."""
    samples = read_coco_captions(files, data, split, seed)
    draw = random.Random(seed)
    prompts = [Sample(row.id, row.picture, text=draw.choice(row.references)) for row in samples.rows if row.references]
    return _with_files(draw.sample(prompts, len(prompts)))


def read_vqa(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads questions and annotations in VQA's format, from two files."""
    asked, annotated = (_load(file) for file in files)
    annotations = {annotation["question_id"]: annotation for annotation in annotated["annotations"]}
    questions = asked["questions"]
    unanswered = [question for question in questions if question["question_id"] not in annotations]
    if unanswered or len(questions) != len(annotations):
        raise Failure(
            f"{files[0].name} and {files[1].name} do not belong together: {len(questions):,} questions, "
            f"{len(annotations):,} annotations, {len(unanswered):,} questions without an annotation."
        )
    subset = asked.get("data_subtype", "val2014")
    names = [COCO_NAME.format(subset=subset, image_id=question["image_id"]) for question in questions]
    paths = PictureFolder(data).find(names)
    return _with_files(
        [_vqa_sample(question, annotations[question["question_id"]], path) for question, path in zip(questions, paths)]
    )


def _vqa_sample(question: dict, annotation: dict, path: str) -> Sample:
    return Sample(
        str(question["question_id"]),
        path,
        question["question"],
        tuple(answer["answer"] for answer in annotation["answers"]),
        annotation.get("answer_type"),
    )


def read_gqa(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads questions in GQA's format, with one answer each."""
    questions = _load(files[0])
    paths = PictureFolder(data).find([f"{question['imageId']}.jpg" for question in questions.values()])
    return _with_files(
        [
            Sample(id, path, entry["question"], (entry["answer"],), entry.get("types", {}).get("structural"))
            for (id, entry), path in zip(questions.items(), paths)
        ]
    )


def read_vizwiz(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads questions in VizWiz's format."""
    questions = _load(files[0])
    paths = PictureFolder(data).find([question["image"] for question in questions])
    return _with_files(
        [
            Sample(
                question["image"],
                path,
                question["question"],
                tuple(answer["answer"] for answer in question["answers"]),
                question.get("answer_type"),
            )
            for question, path in zip(questions, paths)
        ]
    )


def read_geneval(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads GenEval's prompts, with one JSON object per line."""
    lines = [line for line in _read(files[0]).split("\n") if line.strip()]  # JSON may hold other separators
    entries = [_parse(line, files[0]) for line in lines]
    return Samples(
        [Sample(f"{number:05d}", text=entry["prompt"], metadata=entry) for number, entry in enumerate(entries)]
    )


def read_dpg_bench(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Reads DPG-Bench's prompts, with one text file each."""
    return Samples([Sample(file.stem, text=_read(file).strip()) for file in files])


def _with_files(rows: list[Sample]) -> Samples:
    return Samples(rows, read_image, lambda path: Path(path).read_bytes())


def naming_file(files: Iterable[Path], error: Exception) -> Failure:
    """Creates the error for an annotation file that is not in its benchmark's format."""
    names = " and ".join(file.name for file in list(files)[:2])
    return Failure(f"{names} does not have the layout of this benchmark: {type(error).__name__} {error}.")


def _load(file: Path) -> Any:
    return _parse(_read(file), file)


def _parse(text: str, file: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failure(f"{file} is damaged: {error}.") from error


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # some editors start files with a byte order mark
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is damaged: {error}.") from error

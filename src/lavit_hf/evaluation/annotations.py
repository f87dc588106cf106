# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' own annotation files, as samples."""

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
    """Captions in the layout of Karpathy's splits: `dataset_coco.json`, `dataset_flickr30k.json`."""
    images = [image for image in _load(files[0])["images"] if image["split"] == split]
    names = [
        f"{image['filepath']}/{image['filename']}" if "filepath" in image else image["filename"] for image in images
    ]
    paths = PictureFolder(data).find(names)
    return Samples(
        [
            Sample(
                str(image.get("cocoid", image["imgid"])),
                path,
                references=tuple(sentence["raw"] for sentence in image["sentences"]),
            )
            for image, path in zip(images, paths)
        ],
        read_image,
    )


def read_coco_captions(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Captions in the layout of COCO's own files, as NoCaps has them, whose domains are kinds."""
    content = _load(files[0])
    references: dict[Any, list[str]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in references:
            raise Failure(f"{files[0]} has a caption for image {annotation['image_id']}, but no such image.")
        references[annotation["image_id"]].append(annotation["caption"])
    paths = PictureFolder(data).find([image["file_name"] for image in content["images"]])
    return Samples(
        [
            Sample(str(image["id"]), path, references=tuple(references[image["id"]]), kind=image.get("domain"))
            for image, path in zip(content["images"], paths)
        ],
        read_image,
    )


def read_coco_prompts(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """A prompt of each image of COCO's captions, drawn by the seed, to paint and to compare with the image."""
    samples = read_coco_captions(files, data, split, seed)
    draw = random.Random(seed)
    prompts = [Sample(row.id, row.picture, text=draw.choice(row.references)) for row in samples.rows if row.references]
    return Samples(draw.sample(prompts, len(prompts)), read_image)


def read_vqa(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Questions and annotations in the layout of VQA, in two files."""
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
    return Samples(
        [
            _vqa_sample(question, annotations[question["question_id"]], path)
            for question, path in zip(questions, paths)
        ],
        read_image,
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
    """Questions in the layout of GQA: an answer for each."""
    questions = _load(files[0])
    paths = PictureFolder(data).find([f"{question['imageId']}.jpg" for question in questions.values()])
    return Samples(
        [
            Sample(id, path, entry["question"], (entry["answer"],), entry.get("types", {}).get("structural"))
            for (id, entry), path in zip(questions.items(), paths)
        ],
        read_image,
    )


def read_vizwiz(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """Questions in the layout of VizWiz."""
    questions = _load(files[0])
    paths = PictureFolder(data).find([question["image"] for question in questions])
    return Samples(
        [
            Sample(
                question["image"],
                path,
                question["question"],
                tuple(answer["answer"] for answer in question["answers"]),
                question.get("answer_type"),
            )
            for question, path in zip(questions, paths)
        ],
        read_image,
    )


def read_geneval(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """GenEval's prompts, a JSON object in each line."""
    lines = [line for line in _read(files[0]).splitlines() if line.strip()]
    entries = [_parse(line, files[0]) for line in lines]
    return Samples(
        [Sample(f"{number:05d}", text=entry["prompt"], metadata=entry) for number, entry in enumerate(entries)]
    )


def read_dpg_bench(files: list[Path], data: Path, split: str, seed: int) -> Samples:
    """DPG-Bench's prompts, a text file for each."""
    return Samples([Sample(file.stem, text=_read(file).strip()) for file in files])


def naming_file(files: Iterable[Path], error: Exception) -> Failure:
    """What users are told of an annotation file that is not in its benchmark's layout."""
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
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{file} is damaged: {error}.") from error

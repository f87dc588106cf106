# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of a few noisy images in the layouts of their own files, and the same as a folder of datasets."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer


NUMBERS = range(1, 6)
CAPTIONS = {number: [f"picture {number} of noise.", f"a noisy picture, the {number}th"] for number in NUMBERS}
QUESTIONS = {
    number: {"question": f"How noisy is picture {number}{'?' * number}", "answers": ["very"] * (4 + number) + ["no"]}
    for number in NUMBERS
}


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def coco_name(number: int) -> str:
    return f"COCO_val2014_{number:012d}.jpg"


def save_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in zip(NUMBERS, names):
        # Without loss, whatever the name, so that a folder of datasets holds the same.
        picture(number).save(folder / name, format="PNG")


def write_coco(folder: Path) -> Path:
    """Karpathy's split, with an image of another split."""
    names = [coco_name(number) for number in NUMBERS]
    save_pictures(folder / "val2014", names)
    images = [
        {
            "filepath": "val2014",
            "filename": name,
            "split": "test",
            "cocoid": number,
            "imgid": number + 7,
            "sentences": [{"raw": caption} for caption in CAPTIONS[number]],
        }
        for number, name in zip(NUMBERS, names)
    ]
    images.append(images[0] | {"split": "train", "filename": "nowhere.jpg", "cocoid": 99})
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images}))
    return folder


def write_coco_captions(folder: Path, name: str = "captions_val2014.json") -> Path:
    """COCO's own layout, as NoCaps has it, whose domains are told apart."""
    names = [f"{number:04x}.jpg" for number in NUMBERS]
    save_pictures(folder / "images", names)
    images = [
        {"id": number, "file_name": name, "domain": "near-domain" if number % 2 else "out-domain"}
        for number, name in zip(NUMBERS, names)
    ]
    annotations = [
        {"image_id": number, "caption": caption} for number, captions in CAPTIONS.items() for caption in captions
    ]
    (folder / name).write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder


def write_vqa(folder: Path, prefix: str = "v2_") -> Path:
    save_pictures(folder / "val2014", [coco_name(number) for number in NUMBERS])
    questions = [
        {"image_id": number, "question": entry["question"], "question_id": 10 * number}
        for number, entry in QUESTIONS.items()
    ]
    annotations = [
        {
            "question_id": 10 * number,
            "answer_type": "other" if number > 1 else "number",
            "answers": [{"answer": answer, "answer_id": id} for id, answer in enumerate(entry["answers"])],
        }
        for number, entry in QUESTIONS.items()
    ]
    (folder / "annotations").mkdir()
    (folder / "annotations" / f"{prefix}OpenEnded_mscoco_val2014_questions.json").write_text(
        json.dumps({"data_subtype": "val2014", "questions": questions})
    )
    (folder / "annotations" / f"{prefix}mscoco_val2014_annotations.json").write_text(
        json.dumps({"annotations": annotations})
    )
    return folder


def write_gqa(folder: Path) -> Path:
    save_pictures(folder / "images", [f"n{number}.jpg" for number in NUMBERS])
    questions = {
        str(10 * number): {
            "imageId": f"n{number}",
            "question": entry["question"],
            "answer": entry["answers"][0],
            "types": {"structural": "query"},
        }
        for number, entry in QUESTIONS.items()
    }
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(questions))
    return folder


def write_vizwiz(folder: Path) -> Path:
    names = [f"VizWiz_val_{number:08d}.jpg" for number in NUMBERS]
    save_pictures(folder / "val", names)
    questions = [
        {
            "image": name,
            "question": entry["question"],
            "answers": [{"answer": answer} for answer in entry["answers"]],
            "answer_type": "other",
        }
        for name, entry in zip(names, QUESTIONS.values())
    ]
    (folder / "val.json").write_text(json.dumps(questions))
    return folder


def write_rows(folder: Path) -> Path:
    """Captions and questions as a folder of datasets, the split called as Karpathy calls it."""
    from datasets import Dataset, DatasetDict

    rows = [
        {
            "image": picture(number),
            "image_id": number,
            "captions": CAPTIONS[number],
            "question_id": 10 * number,
            "question": QUESTIONS[number]["question"],
            "answers": QUESTIONS[number]["answers"],
            "answer_type": "other" if number > 1 else "number",
        }
        for number in NUMBERS
    ]
    DatasetDict({"test": Dataset.from_list(rows)}).save_to_disk(folder)
    return folder


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP of random weights that knows letters only."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(
            text_config={"vocab_size": len(words), "max_position_embeddings": 16, **ends, **sizes},
            vision_config={"image_size": 32, "patch_size": 16, **sizes},
            projection_dim=8,
        )
    ).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), tokenizer).save_pretrained(folder)
    return folder


WRITERS = {
    "coco": write_coco,
    "nocaps": lambda folder: write_coco_captions(folder, "nocaps_val_4500_captions.json"),
    "vqav2": write_vqa,
    "okvqa": lambda folder: write_vqa(folder, ""),
    "gqa": write_gqa,
    "vizwiz": write_vizwiz,
    "coco-images": write_coco_captions,
}

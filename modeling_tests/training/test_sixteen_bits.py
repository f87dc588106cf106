# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""16-bit grayscale reaches training as it reaches inference: scaled, where Pillow alone would clip it to white."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image


pytest.importorskip("datasets")

from lavit_hf import LaVITImageProcessor
from lavit_hf.training.conversations import load_conversations
from lavit_hf.training.data import load_split, skip_broken_images
from lavit_hf.training.encoded_images import read_image
from lavit_hf.training.picture_texts import load_picture_texts, make_sample
from lavit_hf.visualization import draw_keep_mask
from training_runs import SIDE, load_script


KEEP_MASK = torch.eye(4, dtype=torch.bool).flatten()


@pytest.fixture(scope="module")
def ramp(tmp_path_factory) -> Path:
    """A folder with one image, from black to white in 16 bits, for all kinds of training."""
    folder = tmp_path_factory.mktemp("sixteen-bits")
    pixels = np.linspace(0, 2**16 - 1, SIDE**2).reshape(SIDE, SIDE).astype(np.uint16)
    Image.fromarray(pixels).save(folder / "ramp.png")
    turns = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "a ramp"}]
    line = {"file_name": "ramp.png", "text": "a ramp", "question": "What?", "answer": "a ramp"}
    (folder / "metadata.jsonl").write_text(json.dumps(line))
    (folder / "chats.json").write_text(json.dumps([{"image": "ramp.png", "conversations": turns}]))
    return folder


@pytest.fixture(scope="module")
def prepare():
    processor = LaVITImageProcessor(size={"height": SIDE, "width": SIDE})
    return lambda images, return_tensors="pt": processor(images, return_tensors=return_tensors)


@pytest.fixture(scope="module")
def expected(ramp, prepare) -> torch.Tensor:
    pixel_values = prepare([Image.open(ramp / "ramp.png")]).pixel_values
    assert (pixel_values[0, 0].diff(dim=0) > 0).all()  # darker rows above brighter ones
    return pixel_values


def read_caption(folder: Path) -> Image.Image:
    rows = load_picture_texts(str(folder), "train", "captions")
    return make_sample(rows[0], "captions", None)["image"]["image"]


def read_conversation(folder: Path) -> Image.Image:
    return load_conversations(str(folder / "chats.json"), "train")[0][0]["content"][0]["image"]


def read_to_pretokenize(folder: Path) -> Image.Image:
    return read_image({"bytes": None, "path": str(folder / "ramp.png")})


@pytest.mark.parametrize("read", [read_caption, read_conversation, read_to_pretokenize])
def test_images_with_texts(ramp, prepare, expected, read):
    assert torch.equal(prepare([read(ramp)]).pixel_values, expected)


def test_stage_1(ramp, prepare, expected):
    rows = list(skip_broken_images(load_split(str(ramp))))
    codes, selection = load_script("train_visual_tokenizer"), load_script("train_token_selection")
    settings = SimpleNamespace(features_column="features", image_column="image", complexity_column=None)
    collate = selection.Collator(settings, prepare, 32)
    for batch in (codes.collate_images(rows, "image", prepare), collate(rows)):
        assert torch.equal(batch["pixel_values"], expected)

    class KeepDiagonal:
        device = torch.device("cpu")

        def __call__(self, pixel_values):
            return SimpleNamespace(keep_mask=KEEP_MASK[None])

    (drawn,) = selection.draw_pictures(KeepDiagonal(), rows, collate)
    right = draw_keep_mask(Image.open(ramp / "ramp.png"), KEEP_MASK, size=192)
    assert drawn.tobytes() == right.tobytes()

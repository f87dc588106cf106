# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The walk-through of docs/train-from-nothing.md, run from top to bottom, and what comes out of it."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import json_lines, succeed
from documents import ROOT, prepare_folder, read_blocks, run_blocks


LIBRARIES = ("transformers", "diffusers", "datasets", "accelerate", "huggingface_hub")
PAGE = "docs/train-from-nothing.md"


class Listener(logging.Handler):
    """Keeps what libraries warn of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> tuple[Path, list[str]]:
    """Where all of the page was run, and what libraries warned of on the way."""
    folder, listener = tmp_path_factory.mktemp("toy"), Listener()
    prepare_folder(folder)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in LIBRARIES:
            patch.setattr(logging.getLogger(name), "handlers", [listener])
        blocks = read_blocks((ROOT / PAGE).read_text())
        run_blocks(PAGE, [block for block in blocks if block.excuse != "installs packages"])
    return folder, listener.messages


@pytest.fixture
def folder(walk) -> Path:
    return walk[0]


def share_drawn(path: Path) -> float:
    """The share of pixels that are far from white paper."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert pixels.shape == (64, 64, 3)
    return float((pixels.min(axis=-1) < 128).mean())


@pytest.mark.slow
class TestWalkThrough:
    def test_says_nothing_that_is_not_ours(self, walk):
        assert walk[1] == []

    def test_captions(self, folder):
        """Far more often right than a guess among the twelve kinds, after some minutes."""
        pictures = folder / "toy" / "pictures" / "train"
        rows = map(json.loads, (pictures / "metadata.jsonl").read_text().splitlines())
        texts = {row["file_name"]: row["text"] for row in rows}
        paths = [pictures / name for name in list(texts)[:48]]
        lines = json_lines(succeed("caption", *paths, "--model", folder / "toy" / "lavit", "--json"))
        right = [line["caption"] == texts[Path(line["image"]).name] for line in lines]
        assert np.mean(right) > 3 / 12

    def test_drawings(self, folder):
        """Something in the middle of white paper, as all images of the set."""
        assert 0.02 < share_drawn(folder / "toy" / "drawn.png") < 0.5

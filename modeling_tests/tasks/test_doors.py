# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""One answer through all doors: the same question about the same image, the same image by the same seed."""

import re
import shutil
from itertools import combinations

import pytest
import torch

from benchmark_scripts import load_benchmark
from lavit_hf import LaVITForCausalLM, bundled_checkpoint


doors = load_benchmark("doors")
ASKING = [door for door in doors.READING_DOORS if door != doors.CAPTION_ONLY]


@pytest.fixture(scope="module", params=["converted", "shipped"])
def repo(request, repos, tmp_path_factory):
    """A repo as `lavit convert` writes it, set to repeatable selection, and the shipped one."""
    if request.param == "shipped":
        return bundled_checkpoint()
    folder = shutil.copytree(repos["lowres"], tmp_path_factory.mktemp("doors") / "lavit")
    model = LaVITForCausalLM.from_pretrained(folder)
    model.config.visual_tokenizer_config.selection = "threshold"
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def read(repo):
    """What the model is given through each door, for a question and for a caption."""
    asked = {door: doors.read_through(door, repo, doors.QUESTION) for door in ASKING}
    captioned = {door: doors.read_through(door, repo, None) for door in doors.READING_DOORS}
    return {"question": asked, "caption": captioned}


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [("question", *pair) for pair in combinations(ASKING, 2)]
    + [("caption", *pair) for pair in combinations(doors.READING_DOORS, 2)],
)
def test_same_ids(read, task, first, second):
    (ids, pixels), (other_ids, other_pixels) = read[task][first], read[task][second]
    assert ids == other_ids
    torch.testing.assert_close(pixels, other_pixels, rtol=0, atol=0.02)


def test_ids_are_those_of_training(read, repo):
    """Image, question in the original's words, nothing else; a caption is promptless."""
    processor = doors.LaVITProcessor.from_pretrained(repo)
    (asked, _), (captioned, _) = (read[task]["`apply_chat_template`"] for task in ("question", "caption"))
    question = processor.tokenizer(f"Question: {doors.QUESTION} Answer:", add_special_tokens=False).input_ids
    assert asked == [*processor.image_token_ids, *question]
    assert captioned == processor.image_token_ids


@pytest.mark.parametrize("door", doors.PAINTING_DOORS)
def test_same_picture_by_seed(door):
    assert doors.is_same_picture(door, bundled_checkpoint())


def test_the_table_says_yes():
    """What the page shows is what the script wrote, for all doors."""
    begin, end = map(re.escape, doors.MARKS)
    table = re.search(f"{begin}(.*){end}", doors.PAGE.read_text(), re.DOTALL)[1]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [
        *(doors.READING_DOORS | doors.PAINTING_DOORS)
    ]
    assert all("yes" in line and "no" not in line.split(" | ", 1)[1] for line in lines)

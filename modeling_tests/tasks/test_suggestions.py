# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What a model's card says that it can be asked."""

from pathlib import Path

import pytest

from lavit_hf import bundled_checkpoint
from lavit_hf.tasks.repo_files import open_repo
from lavit_hf.tasks.suggestions import MOST_TEXTS, PROMPTS, QUESTIONS, Suggestions, read_suggestions


def suggestions_of(folder: Path, metadata: str) -> Suggestions:
    (folder / "README.md").write_text(f"---\n{metadata}\n---\n\n# A model\n")
    return read_suggestions(open_repo(str(folder)))


def test_card_says_what_to_ask(tmp_path):
    told = suggestions_of(tmp_path, 'lavit: {knows: birds, questions: ["Which bird is it?"], prompts: [heron, owl]}')
    assert told == Suggestions("birds", ("Which bird is it?",), ("heron", "owl"))


def test_shipped_card():
    assert read_suggestions(open_repo(str(bundled_checkpoint()))).knows == "emoji"


@pytest.mark.parametrize(
    "metadata",
    [
        "license: mit",
        "lavit: yes",
        "lavit: {knows: 3, questions: what, prompts: [{a: b}, '']}",
        f"lavit: {{prompts: ['{'x' * 100}']}}",
        "lavit: [unclosed",
        "- a list",
    ],
)
def test_card_that_says_nothing_of_use(tmp_path, metadata):
    assert suggestions_of(tmp_path, metadata) == Suggestions(None, QUESTIONS, PROMPTS)


def test_no_card_and_a_huge_one(tmp_path):
    assert read_suggestions(open_repo(str(tmp_path))) == Suggestions()
    assert suggestions_of(tmp_path, f"lavit: {{knows: birds}}\n# {'x' * 2**21}") == Suggestions()


def test_no_more_than_fit(tmp_path):
    prompts = [f"bird {number}" for number in range(20)]
    assert suggestions_of(tmp_path, f"lavit: {{prompts: {prompts}}}").prompts == tuple(prompts[:MOST_TEXTS])

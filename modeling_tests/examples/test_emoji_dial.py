# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The curve of the dial from tokens to quality, on the drawings of the examples."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from lavit_hf import bundled_checkpoint


pytest.importorskip("datasets")

EXAMPLE = Path(__file__).parents[2] / "examples" / "emoji"
sys.path.insert(0, str(EXAMPLE))
from dial import AS_TRAINED, Subject, curves_of, format_table, name_of, settings_to_measure  # noqa: E402
from lavit_emoji.measures.curves import draw_curves  # noqa: E402
from lavit_emoji.measures.reading import Drawings, Reader  # noqa: E402


PATHS = sorted((EXAMPLE.parent / "images" / "emoji").glob("*.png"))[:3]


@pytest.fixture(scope="module")
def subject() -> Subject:
    images = [Image.open(path).convert("RGB") for path in PATHS]
    names = [path.stem.replace("_", " ") for path in PATHS]
    return Subject(Path(bundled_checkpoint()), Drawings(images, names, [[]] * 3, [False] * 3), seed=0)


def test_figures_of_a_setting(subject):
    figures = subject.measure(keep_ratio=0.125)
    assert (figures["tokens"], figures["spread"]) == (8, 0)
    tokenizer = subject.tokenizer
    with torch.no_grad():
        outputs = tokenizer.tokenize(subject.features, keep_ratio=0.125)
    errors = tokenizer.rebuild_errors(subject.features, outputs.keep_mask)
    assert figures["cosine"] == pytest.approx(1 - errors.mean().item(), abs=1e-5)
    said = subject.reader.caption(subject.drawings.images, keep_ratio=0.125)
    right = [text.lower() == name for text, name in zip(said, subject.drawings.names)]
    assert figures["exact"] == pytest.approx(sum(right) / 3)
    assert "reached" not in figures


def test_error_tells_how_many_reach_it(subject):
    assert subject.measure(keep_error=0.98)["reached"] == 1
    figures = subject.measure(keep_error=1e-6)
    assert (figures["reached"], figures["tokens"]) == (0, 64)


def test_settings_fit_the_patches():
    settings = settings_to_measure(16)
    assert settings[0] == {} and name_of(settings[0]) == AS_TRAINED
    assert [name_of(setting) for setting in settings if "keep_ratio" in setting] == [
        "keep_ratio=0.25",
        "keep_ratio=0.5",
        "keep_ratio=0.75",
        "keep_ratio=1",
    ]


def test_table_and_curves():
    figures = {
        AS_TRAINED: {"tokens": 20.0, "cosine": 0.7},
        "keep_ratio=0.25": {"tokens": 16.0, "cosine": 0.6},
        "keep_ratio=1": {"tokens": 64.0, "cosine": 0.8},
    }
    lines = format_table(figures).splitlines()
    assert lines[0] == "| setting | tokens | cosine |"
    assert lines[3] == "| keep_ratio=0.25 | 16.000 | 0.600 |"
    panels = curves_of(figures)
    assert panels == {
        "cosine of rebuilt features": {AS_TRAINED: [(20.0, 0.7)], "keep_ratio": [(16.0, 0.6), (64.0, 0.8)]}
    }
    figure = draw_curves(panels, "tokens")
    (panel,) = figure.axes
    assert [line.get_xydata().tolist() for line in panel.lines] == [[[20, 0.7]], [[16, 0.6], [64, 0.8]]]
    assert panel.get_title() == "cosine of rebuilt features" and panel.get_xlabel() == "tokens"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [AS_TRAINED, "keep_ratio"]


def test_reader_takes_the_setting(subject):
    """A caption at one token is that of the model which keeps one patch."""
    model = subject.reader.model
    own = Reader(model, subject.reader.processor)
    config = model.visual_tokenizer.config
    before = config.selection, config.keep_count
    expected = own.caption(subject.drawings.images, keep_ratio=1 / 64)
    try:
        config.selection, config.keep_count = "count", 1
        assert own.caption(subject.drawings.images) == expected
    finally:
        config.selection, config.keep_count = before

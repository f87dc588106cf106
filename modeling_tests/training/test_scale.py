# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The calculation behind examples/scale.md."""

from dataclasses import replace

import pytest
import yaml

from training_runs import EXAMPLES, load_script


RUNS = ("visual_tokenizer", "pixel_decoder", "pretrain")


@pytest.fixture(scope="module")
def scale():
    return load_script("scale")


@pytest.fixture(scope="module")
def sizes(scale):
    return scale.Sizes(scale.Assumptions())


@pytest.mark.slow
def test_page_is_up_to_date(scale):
    """Else: `python examples/scale.py --write`."""
    assert scale.tables() in (EXAMPLES / "scale.md").read_text()


def test_write_replaces_what_stands_between_the_marks(scale, tmp_path, monkeypatch, capsys):
    page = tmp_path / "scale.md"
    page.write_text(f"before\n{scale.MARKS[0]}\nold\n{scale.MARKS[1]}\nafter\n")
    monkeypatch.setattr(scale, "PAGE", page)
    monkeypatch.setattr(scale, "tables", lambda: "| new |")
    scale.main(write=True)
    assert page.read_text() == f"before\n{scale.MARKS[0]}\n\n| new |\n\n{scale.MARKS[1]}\nafter\n"
    assert "| new |" in capsys.readouterr().out


@pytest.mark.slow
def test_counts(sizes):
    """Against what is known of the models, and the rule of two operations a weight and row."""
    assert sizes.parameters["encoder (ViT-g/14)"] == pytest.approx(1.01e9, rel=0.01)
    assert sizes.parameters["language model"] == pytest.approx(6.74e9 + 2 * 16386 * 4096, rel=0.01)
    assert sizes.parameters["U-Net (512 px)"] == pytest.approx(860e6, rel=0.01)
    rows = sizes.patches + 1
    assert sizes.flops["encoder"] == pytest.approx(2 * rows * sizes.parameters["encoder (ViT-g/14)"], rel=0.05)
    assert sizes.flops["language model"] == pytest.approx(2 * sizes.parameters["language model"], rel=0.05)


def test_recipe_is_the_papers(scale, sizes):
    """Of its appendix and its authors' answers."""
    assumptions = scale.Assumptions()
    items = {work.name: work.items for work in scale.works(sizes, assumptions)}
    assert items["stage 1"] == 102.4e6
    assert items["pixel decoder"] / assumptions.pixel_decoder_batch == 20_000
    assert items["pretokenize"] == 193e6
    pairs = 193e6 * (85 + 2 + assumptions.text_length + 1)
    assert items["stage 2"] == 3 * pairs  # two thirds are text alone


def test_runs_are_the_papers():
    runs = {name: yaml.safe_load((EXAMPLES / "runs" / f"7b_{name}.yaml").read_text()) for name in RUNS}
    images = 8 * runs["visual_tokenizer"]["per_device_train_batch_size"] * runs["visual_tokenizer"]["max_steps"]
    assert images == 102.4e6
    assert runs["pixel_decoder"]["max_steps"] == 20_000
    pretrain = runs["pretrain"]
    batch = 8 * pretrain["per_device_train_batch_size"] * pretrain["gradient_accumulation_steps"]
    pairs = batch * pretrain["max_steps"] * (1 - pretrain["text_share"])
    assert pairs == pytest.approx(193e6, rel=0.01)


def test_runs_read_what_others_write():
    runs = {
        name: yaml.safe_load((EXAMPLES / "runs" / f"7b_{name}.yaml").read_text()) for name in (*RUNS, "pretokenize")
    }
    tokenizer, tokens = runs["visual_tokenizer"]["output_dir"], runs["pretokenize"]["output"]
    assert runs["pretokenize"]["visual_tokenizer"] == runs["pretrain"]["visual_tokenizer"] == tokenizer
    assert runs["pixel_decoder"]["tokenizer"] == tokenizer
    assert runs["pretrain"]["dataset"] == tokens


def test_hours_follow_the_assumptions(scale, sizes):
    assumptions = scale.Assumptions()
    doubled = replace(assumptions, stage_1_steps=2 * assumptions.stage_1_steps)
    hours, more = (
        scale.gpu_hours(scale.works(sizes, chosen)[0], "A100 80 GB", 8, chosen) for chosen in (assumptions, doubled)
    )
    assert more == pytest.approx(2 * hours)


def test_measured_shares_take_the_place_of_aims(scale, sizes, monkeypatch):
    assumptions = scale.Assumptions()
    work = scale.works(sizes, assumptions)[0]
    monkeypatch.setitem(scale.MEASURED, "stage 1", 0.5)
    half = scale.gpu_hours(work, "A100 80 GB", 8, assumptions)
    monkeypatch.setitem(scale.MEASURED, "stage 1", 1.0)
    assert half == pytest.approx(2 * scale.gpu_hours(work, "A100 80 GB", 8, assumptions))


def test_fsdp_divides_weights_and_nothing_else(scale, sizes):
    few, many = (scale.stage_2_memory(sizes, scale.Assumptions(), count) for count in (8, 64))
    assert few["optimizer"] == 8 * many["optimizer"]
    assert few["activations"] == many["activations"]

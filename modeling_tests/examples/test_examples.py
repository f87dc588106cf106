# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The short scripts in examples/, each run as its user runs it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITPipeline, LaVITProcessor, bundled_checkpoint
from training_runs import EXAMPLES, load_script


PICTURES = sorted((EXAMPLES / "images" / "emoji").glob("*.png"))
PADDING = 8  # around the images on a contact sheet


def _setting(component: str, name: str) -> int:
    return json.loads(Path(bundled_checkpoint(), component, "config.json").read_text())[name]


SIDE = _setting("unet", "sample_size") * _setting("vae", "patch_size")  # of a painted image, in pixels


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def config():
    return LaVITConfig.from_pretrained(bundled_checkpoint())


def run(script: str, *arguments, exit_code: int = 0) -> str:
    """What a script prints."""
    app = typer.Typer()
    app.command()(load_script(script).main)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.stdout


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def cell(sheet: np.ndarray, column: int) -> np.ndarray:
    """An image of a sheet's first row."""
    left = PADDING + column * (SIDE + PADDING)
    return sheet[PADDING : PADDING + SIDE, left : left + SIDE]


def texts_of(output: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in output.splitlines())


def test_all_short_scripts_have_a_test():
    """Whoever adds a script adds a test of it, and a line to the list of examples."""
    tested_elsewhere = {"demo", "finetune", "pretokenize", "pretokenize_ray", "pretrain", "scale", "vllm_client"}
    tested_elsewhere |= {
        "bundle",
        "fit_patch_autoencoder",
        "initialize_visual_tokenizer",
    }  # by docs/train-from-nothing.md
    scripts = {path.stem for path in EXAMPLES.glob("*.py")} - tested_elsewhere
    source = Path(__file__).read_text()
    assert [name for name in scripts if not name.startswith("train_") and f'run("{name}"' not in source] == []
    listed = (EXAMPLES / "README.md").read_text()
    assert [name for name in scripts | tested_elsewhere if f"]({name}.py)" not in listed] == []


@pytest.mark.slow
def test_caption():
    captions = texts_of(run("caption"))
    assert list(captions) == [path.name for path in PICTURES]
    assert all(captions.values())
    assert len(set(captions.values())) > len(PICTURES) / 2
    assert texts_of(run("caption", PICTURES[3])) == {PICTURES[3].name: captions[PICTURES[3].name]}


@pytest.mark.slow
def test_ask():
    processor = LaVITProcessor.from_pretrained(bundled_checkpoint())
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint())
    question = "What category is this?"
    inputs = processor(images=str(PICTURES[0]), text=processor.format_question(question), return_tensors="pt")
    ids = model.generate(**inputs, num_beams=5, length_penalty=0.0, min_new_tokens=2, max_new_tokens=10)
    expected = processor.post_process_answer(processor.batch_decode(ids[:, inputs.input_ids.shape[1] :]))
    answers = texts_of(run("ask"))
    assert list(answers) == [path.name for path in PICTURES]
    assert answers[PICTURES[0].name] == expected[0].removesuffix("</s>").strip()


@pytest.mark.slow
def test_draw():
    run("draw", "red apple", "red apple")
    run("draw", "blue heart", "--output", "other.png")
    sheet, other = pixels("drawn.png"), pixels("other.png")
    assert sheet.shape[1] == 2 * (SIDE + PADDING) + PADDING
    assert np.abs(cell(sheet, 0) - cell(sheet, 1)).mean() < 2  # the same text and seed
    assert np.abs(cell(sheet, 0) - cell(other, 0)).mean() > 5


@pytest.mark.slow
def test_draw_with_pictures():
    run("draw_with_pictures", "<image> and <image>", PICTURES[0], PICTURES[1])
    sheet = pixels("mixed.png")
    assert sheet.shape[1] == 3 * (SIDE + PADDING) + PADDING
    run("draw_with_pictures", "<image> and <image>", PICTURES[2], PICTURES[3], "--output", "other.png")
    assert np.abs(cell(sheet, 2) - cell(pixels("other.png"), 2)).mean() > 5  # what is painted follows the images


def test_tokenize_image(config):
    head, ids = run("tokenize_image", PICTURES[0]).splitlines()
    ids = [int(word) for word in ids.split()]
    assert head == f"{len(ids)} of {config.visual_tokenizer_config.num_patches} patches kept"
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype=config.visual_tokenizer_config.dtype)
    image_processor = LaVITProcessor.from_pretrained(bundled_checkpoint()).image_processor
    inputs = image_processor(str(PICTURES[0]), return_tensors="pt")
    assert ids == model.get_image_tokens(**inputs)[0][1:-1].tolist()
    assert max(Image.open("kept.png").size) == 512


def test_tokenize_image_with_a_budget(config):
    head = run("tokenize_image", "--keep-ratio", 0.25).splitlines()[0]
    num_patches = config.visual_tokenizer_config.num_patches
    assert head == f"{num_patches // 4} of {num_patches} patches kept"


def test_reconstruct():
    run("reconstruct", PICTURES[6], PICTURES[2])
    sheet = pixels("reconstructed.png")
    rows = (sheet.shape[0] - PADDING) // 2
    red, yellow = (cell(sheet[rows:], column) for column in (0, 1))
    for column, rebuilt, other in ((0, red, yellow), (1, yellow, red)):
        original = cell(sheet, column)
        assert np.abs(original - rebuilt).mean() < np.abs(original - other).mean()


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_load_quantized(bits):
    pytest.importorskip("bitsandbytes")
    output = run("load_quantized", "--bits", bits)
    stored, quantized = (float(size) for size in re.findall(r"([\d.]+) MB", output))
    assert quantized < stored
    assert f"the ids of {len(PICTURES)} images are the same" in output


def test_load_quantized_in_bits_that_there_are_not():
    run("load_quantized", "--bits", 5, exit_code=2)


@pytest.mark.slow
def test_convert_checkpoint(golden):
    heads = golden.facts["dims"]["heads"]
    run("convert_checkpoint", golden.original, "whole", "--heads", heads, "--pixel-decoder", "lowres")
    assert LaVITPipeline.load_config("whole")["_class_name"] == "LaVITPipeline"
    output = run("convert_checkpoint", golden.original, "reads", "--heads", heads)
    assert "LaVITForCausalLM.from_pretrained('reads') works" in output
    run("convert_checkpoint", golden.original, "reads", "--heads", heads, exit_code=1)  # is there already

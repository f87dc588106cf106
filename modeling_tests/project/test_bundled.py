# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The checkpoint that the package ships, through every door, and the demonstration."""

import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline

from lavit_hf import (
    LaVITForCausalLM,
    LaVITPipeline,
    LaVITProcessor,
    LaVITVisualTokenizer,
    bundled_checkpoint,
)
from lavit_hf.hub.repo_layout import MOVED_MODULES


PICTURES = Path(__file__).parents[2] / "examples" / "images" / "emoji"
MOST_MEGABYTES = 36


@pytest.fixture(scope="module")
def checkpoint():
    return bundled_checkpoint()


@pytest.fixture(scope="module")
def painter(checkpoint):
    painter = LaVITPipeline.from_pretrained(checkpoint)
    painter.set_progress_bar_config(disable=True)
    return painter


def test_is_small(checkpoint):
    assert sum(path.stat().st_size for path in Path(checkpoint).rglob("*") if path.is_file()) < MOST_MEGABYTES * 1e6


def test_is_bf16(checkpoint):
    model = AutoModel.from_pretrained(checkpoint)
    assert isinstance(model, LaVITForCausalLM)
    assert {weight.dtype for name, weight in model.named_parameters() if "selector" not in name} == {torch.bfloat16}
    assert isinstance(AutoProcessor.from_pretrained(checkpoint), LaVITProcessor)


def test_names_no_place_of_the_machine_it_was_made_on(checkpoint):
    places = {
        place
        for path in Path(checkpoint).rglob("*.json")
        for place in re.findall(r'"_name_or_path": "([^"]*)"', path.read_text())
    }
    assert places <= {""}


def test_promises_no_source_and_names_present_modules(checkpoint):
    assert not list(Path(checkpoint).rglob("*.py"))
    assert not [path for path in Path(checkpoint).rglob("*.json") if "auto_map" in path.read_text()]
    index = json.loads((Path(checkpoint) / "model_index.json").read_text())
    modules = {entry[0] for entry in index.values() if isinstance(entry, list) and entry[0] is not None}
    assert {importlib.import_module(module).__name__ for module in modules} == modules
    assert not modules & MOVED_MODULES.keys()


@pytest.mark.parametrize("name", ["penguin", "rocket", "strawberry", "castle"])
def test_names_drawings_it_never_saw(painter, name):
    inputs = painter.processor(images=str(PICTURES / f"{name}.png"), return_tensors="pt")
    texts = painter.processor.batch_decode(painter.language_model.generate(**inputs), skip_special_tokens=True)
    assert painter.processor.post_process_caption(texts) == [name]


@pytest.mark.parametrize("color", ["white", "black", "lightblue", "darkgreen"])
def test_calls_an_empty_image_blank(painter, color):
    inputs = painter.processor(images=Image.new("RGB", (200, 150), color), return_tensors="pt")
    assert len(painter.language_model.get_image_tokens(inputs.pixel_values)[0]) == 3  # one code between the marks
    texts = painter.processor.batch_decode(painter.language_model.generate(**inputs), skip_special_tokens=True)
    assert painter.processor.post_process_caption(texts) == ["blank image"]


def test_answers(painter):
    question = painter.processor.format_question("What category is this?")
    inputs = painter.processor(images=str(PICTURES / "strawberry.png"), text=question, return_tensors="pt")
    ids = painter.language_model.generate(**inputs)[:, inputs.input_ids.shape[1] :]
    answers = painter.processor.post_process_answer(painter.processor.batch_decode(ids, skip_special_tokens=True))
    assert answers == ["food and drink"]


def test_keeps_about_a_third(checkpoint, painter):
    images = [Image.open(path) for path in sorted(PICTURES.glob("*.png"))]
    tokenizer = LaVITVisualTokenizer.from_pretrained(checkpoint)
    with torch.no_grad():
        kept = tokenizer(**painter.processor.image_processor(images, return_tensors="pt")).keep_mask.float().mean(1)
    assert 0.2 < kept.mean() < 0.45
    assert kept.unique().numel() > 2  # length follows content


def test_paints_in_the_words_color(painter):
    """A red apple is redder than the blue sky of an airplane."""
    pictures = painter(
        ["red apple", "airplane"],
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    assert pictures.shape == (2, 3, 64, 64)
    redness = pictures[:, 0].mean(dim=(1, 2)) - pictures[:, 2].mean(dim=(1, 2))
    assert redness[0] > redness[1] + 0.1


@pytest.mark.slow
def test_paints_what_it_reads(painter):
    """Each example image comes back as that one: in what sets it apart from their mean, it is most like it."""
    images = [Image.open(path).convert("RGB") for path in sorted(PICTURES.glob("*.png"))]
    rebuilt = painter.reconstruct(images, generator=torch.Generator().manual_seed(0), output_type="pt").images.float()
    small = painter.image_processor.preprocess(images, 64, 64) / 2 + 0.5
    rebuilt, small = ((pictures - pictures.mean(dim=0)).flatten(start_dim=1) for pictures in (rebuilt, small))
    likeness = torch.cosine_similarity(rebuilt[:, None], small[None], dim=-1)
    assert likeness.argmax(dim=1).tolist() == list(range(len(images)))


def test_transformers_pipeline(checkpoint):
    captioner = pipeline("image-text-to-text", model=checkpoint)
    (output,) = captioner(images=str(PICTURES / "penguin.png"), text="", return_full_text=False)
    assert "penguin" in output["generated_text"]


def test_both_doors_have_the_same_settings_of_generation(checkpoint):
    root, component = (
        json.loads((Path(checkpoint) / folder / "generation_config.json").read_text())
        for folder in ("", "language_model")
    )
    assert root == component

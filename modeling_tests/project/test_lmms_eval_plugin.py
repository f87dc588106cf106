# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The model for lmms-eval: requests to answers. A stand-in is its base where lmms-eval itself is not installed."""

import importlib
import json
import sys
from importlib.metadata import EntryPoint, PackageNotFoundError, version

import pytest
import tomllib
from PIL import Image

from command_line import json_lines, succeed
from documents import ROOT
from lavit_hf import LaVITProcessor, bundled_checkpoint
from lavit_hf.tasks.failures import Failure
from lmms_eval_stand_in import stand_in
from text_scores import score_by_forward


NAME = "lavit_hf.lmms_eval_plugin"
PICTURES = ROOT / "examples" / "images" / "emoji"
ROWS = json.loads((ROOT / "examples" / "lmms_eval" / "emoji.json").read_text())
QUESTION = "What category is this?"
ASKED = f"Question: {QUESTION} Answer:"
EXACT = ("--device", "cpu", "--dtype", "float32")
CAPTION = {"until": ["."]}
ANSWER = {
    "num_beams": 5,
    "early_stopping": True,
    "length_penalty": 0.0,
    "min_new_tokens": 1,
    "max_new_tokens": 10,
    "until": ["\n", "question:", "Long answer:", ",", "."],
}


def _is_installed(distribution: str) -> bool:
    """Whether it is, and not only a folder of that name where Python finds it, as examples/lmms_eval may be."""
    try:
        return bool(version(distribution))
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def plugin():
    with pytest.MonkeyPatch.context() as patch:
        if not _is_installed("lmms_eval"):
            for name, module in stand_in().items():
                patch.setitem(sys.modules, name, module)
        yield importlib.import_module(NAME)
        del sys.modules[NAME]


@pytest.fixture(scope="module")
def model(plugin):
    model = plugin.LaVIT(device="cpu", dtype="float32", batch_size="3")
    model.task_dict["emoji"] = {"test": ROWS}
    return model


@pytest.fixture(scope="module")
def processor():
    return LaVITProcessor.from_pretrained(bundled_checkpoint())


@pytest.fixture(scope="module")
def request_of(plugin):
    def make(text, wish, doc_id=0, images=lambda row: [open_picture(row)], kind="generate_until"):
        metadata = {"task": "emoji", "doc_id": doc_id, "repeats": 1}
        return plugin.Instance(kind, (text, wish, images, doc_id, "emoji", "test"), 0, metadata)

    return make


def open_picture(row: dict) -> Image.Image:
    return Image.open(PICTURES / row["picture"])


def test_entry_point(plugin):
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lmms_eval.models"]
    ((name, value),) = group.items()
    manifest = EntryPoint(name, value, "lmms_eval.models").load()
    assert manifest is plugin.MANIFEST
    assert manifest.model_id == name == "lavit_hf"
    assert manifest.simple_class_path == f"{NAME}.LaVIT"
    assert issubclass(plugin.LaVIT, plugin.lmms)


class TestWriting:
    def test_answers_are_those_of_the_command_line(self, model, request_of):
        """Captions and answers mixed, each with the settings of its own task, in the order they were asked for."""
        requests = []
        for doc_id in range(len(ROWS)):
            requests += [request_of("", CAPTION, doc_id), request_of(ASKED, ANSWER, doc_id)]
        texts = model.generate_until(requests)
        pictures = [PICTURES / row["picture"] for row in ROWS]
        captions = json_lines(succeed("caption", *pictures, *EXACT, "--json"))
        answers = json_lines(succeed("ask", QUESTION, *pictures, *EXACT, "--json"))
        assert texts[::2] == [line["caption"] for line in captions]
        assert texts[1::2] == [line["answer"] for line in answers]
        assert len({*texts}) > 6

    def test_images_stand_where_the_task_says(self, model, processor, request_of):
        pictures = [open_picture(row) for row in ROWS[:2]]
        text = "Question: What is <image> beside <image>? Answer:"
        (written,) = model.generate_until([request_of(text, {"max_new_tokens": 4}, images=lambda row: pictures)])
        inputs = processor(images=pictures, text=text).to("cpu", model.model.dtype)
        ids = model.model.generate(**inputs, max_new_tokens=4)[:, inputs["input_ids"].shape[1] :]
        assert written == processor.decode(ids[0], skip_special_tokens=True).strip()

    def test_without_images(self, model, request_of):
        """Beside a prompt that has one."""
        settings = {"max_new_tokens": 4}
        requests = [request_of("red", settings, images=lambda row: None), request_of(ASKED, settings)]
        alone = [model.generate_until([request])[0] for request in requests]
        assert model.generate_until(requests) == alone

    @pytest.mark.parametrize(
        ("until", "cut"), [(" ", 1), ([" ", "zzz"], 1), (["zzz"], None), ("", None), (None, None)]
    )
    def test_until(self, until, cut, model, request_of):
        settings = {"min_new_tokens": 10, "max_new_tokens": 10}
        (whole,) = model.generate_until([request_of(ASKED, settings)])
        assert " " in whole
        (text,) = model.generate_until([request_of(ASKED, settings | {"until": until})])
        assert text == " ".join(whole.split(" ")[:cut])

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ({}, {"do_sample": False}),
            ({"temperature": 0, "top_p": 1.0, "num_beams": 1}, {"do_sample": False, "num_beams": 1}),
            ({"temperature": 0.0, "do_sample": True}, {"do_sample": False}),
            ({"temperature": 0.7}, {"do_sample": True, "temperature": 0.7}),
            ({"temperature": 0.7, "do_sample": False, "top_k": 5}, {"do_sample": False}),
            ({"do_sample": True, "top_p": 0.9, "temperature": None}, {"do_sample": True, "top_p": 0.9}),
            (ANSWER, {name: value for name, value in ANSWER.items() if name != "until"} | {"do_sample": False}),
        ],
    )
    def test_settings(self, asked, told, model, request_of, monkeypatch):
        calls = []

        def generate(input_ids, attention_mask, pixel_values, **settings):
            calls.append(settings)
            return input_ids

        monkeypatch.setattr(model.model, "generate", generate)
        assert model.generate_until([request_of(ASKED, asked)]) == [""]
        assert calls == [told]

    def test_unknown_settings_are_named(self, model, request_of, caplog):
        settings = {"max_new_tokens": 2, "image_aspect_ratio": "pad"}
        model.generate_until([request_of(ASKED, settings)] * 2)
        assert caplog.messages == ["lavit_hf ignores image_aspect_ratio: generate has no such argument."]


class TestScoring:
    TEXTS = (" nature", " travel and places", " food and drink", " red", " a very long and unlikely answer")

    def test_sums_are_those_of_forward(self, model, processor, request_of):
        requests = [
            request_of(ASKED, lambda row, text=text: text, number, kind="loglikelihood")
            for number, text in enumerate(self.TEXTS)
        ]
        pictures = [[open_picture(row)] for row in ROWS]
        expected = [
            score_by_forward(model.model, processor, images, ASKED, text) for images, text in zip(pictures, self.TEXTS)
        ]
        totals = [result.text[0] for result in model.loglikelihood(requests)]
        assert totals == pytest.approx(expected, rel=1e-4)
        assert max(totals) - min(totals) > 5

    def test_caption_follows_the_image_itself(self, model, processor, request_of):
        """lmms-eval puts a space in front of each choice."""
        requests = [request_of("", lambda row, text=text: text) for text in ("rocket", " rocket")]
        result, spaced = model.loglikelihood(requests)
        assert result == spaced
        expected = score_by_forward(model.model, processor, [open_picture(ROWS[0])], "", "rocket")
        assert result.text[0] == pytest.approx(expected, rel=1e-4)

    def test_choices_are_negated(self, model, request_of):
        """lmms-eval takes the choice with the smallest number."""
        names = [row["name"] for row in ROWS]
        choices = model.loglikelihood([request_of("", f" {name}") for name in names])
        texts = model.loglikelihood([request_of("", lambda row, name=name: f" {name}") for name in names])
        assert [result.text for result in choices] == [(-result.text[0], result.text[1]) for result in texts]
        assert min(result.text[0] for result in choices) > 0

    def test_is_greedy(self, model, request_of):
        """In a batch with a text that is not."""
        written = model.generate_until([request_of(ASKED, {"max_new_tokens": 10}, doc_id) for doc_id in range(3)])
        texts = [f" {text}" for text in written]
        others = [f"{text} tiger" for text in texts]
        requests = [request_of(ASKED, text, doc_id) for pair in (texts, others) for doc_id, text in enumerate(pair)]
        assert [result.text[1] for result in model.loglikelihood(requests)] == [True] * 3 + [False] * 3

    def test_nothing_in_front(self, model, request_of):
        with pytest.raises(ValueError, match="nothing precedes"):
            model.loglikelihood([request_of("", " red", images=lambda row: [])])


class TestRefusals:
    def test_several_rounds(self, model, request_of):
        with pytest.raises(NotImplementedError, match=r"one prompt at a time.*rounds: emoji\.$"):
            model.generate_until_multi_round([request_of(ASKED, {})])

    def test_no_image(self, model, request_of):
        with pytest.raises(ValueError, match="document 3 of emoji holds str, but LaVIT reads images only"):
            model.generate_until([request_of(ASKED, {}, 3, images=lambda row: ["film.mp4"])])

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"batch_size": "auto"}, ValueError, "batch_size is 'auto', but lavit_hf needs a number above 0."),
            ({"batch_size": 0}, ValueError, "batch_size is 0, but lavit_hf needs a number above 0."),
            ({"dtype": "int8"}, ValueError, "unknown dtype 'int8'. Choose one of auto, float32, bfloat16, float16."),
            ({"device": "tpu9"}, Failure, "'tpu9' cannot be used"),
            ({"pretrained": "no/such/folder"}, Failure, "there is no folder no/such/folder"),
        ],
    )
    def test_arguments(self, arguments, error, message, plugin):
        with pytest.raises(error, match=message):
            plugin.LaVIT(**arguments)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The doors that users of transformers know: Auto classes, pipelines, quantization, adapters."""

import copy
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageColumn
from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    pipeline,
)
from transformers.utils import logging

import lavit_hf
from conftest import tiny_visual_config
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITImageProcessorPil,
    LaVITPipeline,
    LaVITProcessor,
    LaVITVisualTokenizer,
    bundled_checkpoint,
)
from lavit_hf.lavit.task_pipelines import LaVITAnyToAnyPipeline, LaVITImageTextToTextPipeline


PICTURES = Path(__file__).parents[2] / "examples" / "images"
PENGUIN = str(PICTURES / "emoji" / "penguin.png")
CAT, COFFEE = str(PICTURES / "cat.jpg"), str(PICTURES / "coffee.jpg")
GREEDY = {"num_beams": 1, "max_new_tokens": 8, "min_new_tokens": 1, "do_sample": False}


@pytest.fixture(scope="module")
def repo(converted, tmp_path_factory):
    """The converted folder, set to repeatable selection."""
    folder = shutil.copytree(converted, tmp_path_factory.mktemp("repo") / "lavit")
    model = LaVITForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config.visual_tokenizer_config.selection = "threshold"
    model.save_pretrained(folder)
    return folder


def caption(model, processor, image):
    ids = model.generate(**processor(images=image, return_tensors="pt"), **GREEDY)
    return processor.post_process_image_text_to_text(ids)[0]


@pytest.mark.slow
def test_import_is_light():
    """No library that transformers' own models do without; `benchmarks/imports.py` times it."""
    heavy = ("diffusers", "timm", "bitsandbytes", "peft", "datasets", "lavit_hf.training", "lavit_hf.conversion")
    code = f"import sys, lavit_hf; print([name for name in {heavy} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert process.stdout.strip() == "[]", process.stderr


@pytest.mark.parametrize(
    ("program", "is_command"),
    [("/usr/bin/lavit", True), ("Scripts/lavit.exe", True), ("lavit.py", False), ("script.py", False), ("", False)],
)
def test_only_the_command_registers_late(monkeypatch, program, is_command):
    monkeypatch.setattr(sys, "argv", [program])
    assert lavit_hf._runs_command() == is_command


class TestAutoClasses:
    def test_config_processors_and_tokenizer(self, repo):
        assert type(AutoConfig.from_pretrained(repo)) is LaVITConfig
        assert type(AutoProcessor.from_pretrained(repo)) is LaVITProcessor
        assert type(AutoImageProcessor.from_pretrained(repo, backend="pil")) is LaVITImageProcessorPil
        assert len(AutoTokenizer.from_pretrained(repo)) == LaVITConfig.from_pretrained(repo).text_config.vocab_size

    @pytest.mark.parametrize(
        "auto_class", [AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM]
    )
    def test_models(self, repo, auto_class):
        assert type(auto_class.from_pretrained(repo)) is LaVITForCausalLM

    def test_visual_tokenizer_alone(self, repo, tmp_path):
        LaVITVisualTokenizer.from_pretrained(repo).save_pretrained(tmp_path)
        assert type(AutoModel.from_pretrained(tmp_path)) is LaVITVisualTokenizer

    def test_saving_again_gives_the_same_bytes(self, repo, tmp_path):
        LaVITForCausalLM.from_pretrained(repo).save_pretrained(tmp_path / "first")
        LaVITForCausalLM.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
        names = {path.name for path in (tmp_path / "first").iterdir()}
        assert "visual_tokenizer.safetensors.index.json" in names
        for name in names:
            assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


class TestPipelines:
    @pytest.fixture(scope="class")
    def direct(self, repo):
        model, processor = LaVITForCausalLM.from_pretrained(repo), LaVITProcessor.from_pretrained(repo)
        return [caption(model, processor, picture) for picture in (CAT, COFFEE)]

    @pytest.mark.parametrize("task", ["image-text-to-text", "image-to-text"])
    def test_image_to_text(self, repo, direct, task):
        logging.set_verbosity_error()  # transformers' own notice of the redirected name cannot be formatted
        pipe = pipeline(task, model=str(repo))
        logging.set_verbosity_warning()
        outputs = pipe(images=[CAT, COFFEE], text=["", ""], generate_kwargs=GREEDY, return_full_text=False)
        assert [output["generated_text"] for output in outputs] == direct

    def test_path_alone_is_captioned(self, repo, direct):
        pipe = pipeline("image-text-to-text", model=str(repo))
        image = Image.open(COFFEE)
        single, several = pipe(CAT, generate_kwargs=GREEDY), pipe([CAT, image], generate_kwargs=GREEDY)
        generated = pipe((path for path in (CAT, COFFEE)), generate_kwargs=GREEDY)
        assert single[0]["generated_text"] == direct[0]
        table = Dataset.from_dict({"image": [CAT, COFFEE]}).cast_column("image", ImageColumn())
        column = pipe(table["image"], generate_kwargs=GREEDY)
        for outputs in (several, generated, column):
            assert [output[0]["generated_text"] for output in outputs] == direct
        with pytest.raises(ValueError, match=r"'a cat' \(no such file"):
            pipe("a cat")
        with pytest.raises(ValueError, match="`images` is an empty list"):
            pipe([])

    @pytest.mark.parametrize("task", ["image-text-to-text", "any-to-any"])
    def test_chat(self, repo, task):
        pipe = pipeline(task, model=str(repo))
        content = [{"type": "image", "path": CAT}, {"type": "text", "text": "What is it?"}]
        chat = [{"role": "user", "content": content}]
        model, processor = LaVITForCausalLM.from_pretrained(repo), LaVITProcessor.from_pretrained(repo)
        inputs = processor(images=CAT, text=processor.format_question("What is it?"), return_tensors="pt")
        ids = model.generate(**inputs, **GREEDY)[:, inputs["input_ids"].shape[1] :]
        answer = processor.post_process_image_text_to_text(ids)[0].strip()
        output = pipe(text=chat, generate_kwargs=GREEDY, return_full_text=False)
        assert output[0]["generated_text"] == answer
        whole = pipe(text=chat, generate_kwargs=GREEDY)[0]["generated_text"]
        assert whole == [*chat, {"role": "assistant", "content": answer}]

    @pytest.mark.parametrize("task", ["image-text-to-text", "any-to-any"])
    def test_answer_in_a_chat_begins_without_a_space(self, task):
        """Also if a copy of the pipeline answers."""
        content = [{"type": "image", "path": PENGUIN}, {"type": "text", "text": "What category is this?"}]
        pipe = pipeline(task, model=bundled_checkpoint())
        for copied in (pipe, copy.deepcopy(pipe), pickle.loads(pickle.dumps(pipe))):
            assert type(copied) is type(pipe)
            output = copied(text=[{"role": "user", "content": content}], max_new_tokens=6, return_full_text=False)
            assert output[0]["generated_text"] == "nature"

    def test_any_to_any_writes_text(self, repo, direct):
        pipe = pipeline("any-to-any", model=str(repo))
        output = pipe(images=[CAT], text=[""], generate_kwargs=GREEDY, return_full_text=False)
        assert output[0]["generated_text"] == direct[0]

    @pytest.mark.slow
    def test_any_to_any_paints(self, repos):
        """By the pixel decoder of the repo, with what the pipeline paints by the same seed."""
        codes = {"max_new_tokens": 6, "min_new_tokens": 6}
        pipe = pipeline("any-to-any", model=str(repos["lowres"]), dtype=torch.float32)
        painter = LaVITPipeline.from_pretrained(repos["lowres"], dtype=torch.float32)
        torch.manual_seed(0)
        expected = painter("a cat", generation_kwargs=codes).images[0]
        for text in ("a cat", [{"role": "user", "content": "a cat"}]):
            torch.manual_seed(0)
            output = pipe(text=text, generation_mode="image", generate_kwargs=codes)
            assert output[0]["generated_image"].tobytes() == expected.tobytes()
        outputs = pipe(text=["a cat", "a red dog"], generation_mode="image", generate_kwargs=codes)
        assert [output["generated_image"].size for output in outputs] == [expected.size] * 2

    def test_any_to_any_says_what_pictures_need(self, repo):
        pipe = pipeline("any-to-any", model=str(repo))
        with pytest.raises(ValueError, match=r"lavit has none. Call model.attach_pixel_decoder"):
            pipe(
                text=["a cat"],
                generation_mode="image",
                generate_kwargs={"max_new_tokens": 4, "min_new_tokens": 4},
            )

    @pytest.mark.parametrize(
        ("task", "settings", "message"),
        [
            (
                "any-to-any",
                {"generate_kwargs": {"generation_mode": "text"}},
                "'image' by generation_mode and 'text' by",
            ),
            ("any-to-any", {"processor_kwargs": {"generation_mode": "text"}}, "'text' by processor_kwargs"),
            ("image-text-to-text", {}, "'text' by the task image-text-to-text and 'image' by generation_mode"),
        ],
    )
    def test_modes_that_contradict(self, repo, task, settings, message):
        pipe = pipeline(task, model=str(repo))
        with pytest.raises(ValueError, match=message):
            pipe(text="a cat", generation_mode="image", **settings)

    def test_other_models_have_transformers_own(self, repo):
        """What is registered for the task gives its place to the plain class."""
        other = SimpleNamespace(config=SimpleNamespace(model_type="other"))
        for ours in (LaVITImageTextToTextPipeline, LaVITAnyToAnyPipeline):
            with patch.object(ours, "plain_class", lambda model, task: (model, task)):
                assert ours(other, task="a task") == (other, "a task")


class TestQuantized:
    """bitsandbytes on the CPU. What decides the codes stays as it is."""

    @pytest.fixture(scope="class")
    def plain(self, tmp_path_factory):
        """A model whose sizes bitsandbytes' kernels can divide, saved."""
        text_config = LlamaConfig(
            vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2
        )
        torch.manual_seed(0)
        config = LaVITConfig(
            text_config=text_config, visual_tokenizer_config=tiny_visual_config(selection="threshold")
        )
        folder = tmp_path_factory.mktemp("plain")
        LaVITForCausalLM(config).save_pretrained(folder)
        return LaVITForCausalLM.from_pretrained(folder)

    @pytest.fixture(scope="class", params=["8bit", "4bit"])
    def quantized(self, request, plain):
        pytest.importorskip("bitsandbytes")
        config = BitsAndBytesConfig(**{f"load_in_{request.param}": True})
        return LaVITForCausalLM.from_pretrained(plain.name_or_path, quantization_config=config, device_map="cpu")

    def test_codes_do_not_move(self, quantized, plain):
        pixel_values = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        expected = plain.get_image_tokens(pixel_values)
        assert all(map(torch.equal, quantized.get_image_tokens(pixel_values), expected))

    def test_only_the_language_model_is_quantized(self, quantized):
        quantized_names = {
            name
            for name, module in quantized.named_modules()
            if type(module).__name__ in ("Linear8bitLt", "Linear4bit")
        }
        assert len(quantized_names) == 2 * 7  # layers and their projections
        assert all(name.startswith("model.language_model.layers.") for name in quantized_names)

    def test_logits_stay_near(self, quantized, plain):
        ids = torch.arange(5, 15)[None]
        with torch.no_grad():
            difference = quantized(ids).logits - plain(ids).logits
        assert 0 < difference.std() < 0.3 * plain(ids).logits.std()

    def test_generates(self, quantized):
        ids = torch.tensor([[102, 103, 5, 6]])
        pixel_values = torch.randn(1, 3, 32, 32)
        assert quantized.generate(ids, pixel_values, max_new_tokens=3, min_new_tokens=3).shape == (1, 7)

    @pytest.mark.parametrize("bits", ["8bit", "4bit"])
    def test_any_width(self, tmp_path, bits):
        """Also one that is no multiple of what the kernels count by."""
        pytest.importorskip("bitsandbytes")
        text_config = LlamaConfig(
            vocab_size=128, hidden_size=48, intermediate_size=88, num_hidden_layers=1, num_attention_heads=2
        )
        config = LaVITConfig(
            text_config=text_config, visual_tokenizer_config=tiny_visual_config(selection="threshold")
        )
        LaVITForCausalLM(config).save_pretrained(tmp_path)
        config = BitsAndBytesConfig(**{f"load_in_{bits}": True})
        quantized = LaVITForCausalLM.from_pretrained(tmp_path, quantization_config=config)
        ids = torch.arange(5, 15)[None]
        with torch.no_grad():
            assert quantized(ids).logits.isfinite().all()


def test_lora_attaches_by_name_and_trains(repo, golden):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], exclude_modules="visual_tokenizer.*")
    model = peft.get_peft_model(LaVITForCausalLM.from_pretrained(repo), config)
    ids = torch.tensor([[32000, 32001, 264, 8428]])
    model(input_ids=ids, pixel_values=golden.tensors["pixel_values"][:1], labels=ids).loss.backward()
    adapted = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert adapted and all("lora_" in name for name in adapted)
    assert any("language_model" in name for name in adapted)
    assert not any("visual_tokenizer" in name for name in adapted)


def test_device_map_auto(repo, golden):
    """accelerate finds a place for every module."""
    model = LaVITForCausalLM.from_pretrained(repo, device_map="auto")
    assert model.get_image_features(golden.tensors["pixel_values"][:1]).pooler_output[0].shape[1] == 64


def test_parts_on_the_disk(repos, golden, tmp_path):
    """All that 100 kB have no room for: the visual tokenizer and its selector too."""
    repo, pixel_values = repos["lowres"], golden.tensors["pixel_values"][:1]
    spread = LaVITForCausalLM.from_pretrained(
        repo,
        subfolder="language_model",
        device_map="auto",
        max_memory={"cpu": "100kB"},
        offload_folder=tmp_path,
    )
    assert "disk" in spread.hf_device_map.values()
    whole = LaVITForCausalLM.from_pretrained(repo)
    for model in (spread, whole):
        model.visual_tokenizer.config.selection = "threshold"
    assert all(map(torch.equal, spread.get_image_tokens(pixel_values), whole.get_image_tokens(pixel_values)))
    read, expected = (model.get_image_features(pixel_values).pooler_output for model in (spread, whole))
    assert all(map(torch.equal, read, expected))

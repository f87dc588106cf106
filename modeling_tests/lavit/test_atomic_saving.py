# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What is saved over an older repo is whole or absent, wherever the process that saves is killed.

After every kill the repo is loaded twice: as it lies, as a program does that knows nothing of lavit_hf's way to save,
and by lavit_hf, which finishes what was cut short.
"""

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainingArguments

import lavit_hf.lavit.atomic_saving
from kills import kill_everywhere
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITModel,
    LaVITPipeline,
    LaVITProcessor,
    LaVITVisualTokenizer,
)
from lavit_hf.lavit.atomic_saving import CHANGES_NAME, SAVE_FOLDER, atomic_update, finish_interrupted_save
from tiny_pixels import tiny_detokenizer, tiny_language_model, tiny_processor, tiny_unet, tiny_vae


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*")

SMALL_FILES = {"max_shard_size": "50KB"}


def model_with(value: float) -> LaVITForCausalLM:
    """A model whose every tensor and generation config tell which it is."""
    model = tiny_language_model()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    model.generation_config.max_new_tokens = int(value)
    model.config.text_config.rms_norm_eps = value * 1e-6
    return model


def processor_with(value: float) -> LaVITProcessor:
    processor = tiny_processor()
    processor.chat_template = f"{{# {int(value)} #}}"
    processor.image_processor.size = {"height": 16 * int(value), "width": 16 * int(value)}
    processor.tokenizer.add_tokens(["pear"] * int(value == 2))
    return processor


def pipeline_with(value: float, with_language_model: bool = True) -> LaVITPipeline:
    model, detokenizer, unet, vae = model_with(value), tiny_detokenizer(False), tiny_unet(False), tiny_vae()
    with torch.no_grad():
        for part in (detokenizer, unet, vae):
            for tensor in part.state_dict().values():
                tensor.fill_(value)
    detokenizer.set_codebook(model.visual_tokenizer.quantizer.codebook.weight)
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(num_train_timesteps=100 * int(value))
    model = model if with_language_model else None
    return LaVITPipeline(model, processor_with(value), detokenizer, unet, vae, scheduler)


def values_of_model(model: LaVITForCausalLM) -> set[float]:
    values = {value for tensor in model.state_dict().values() for value in tensor.unique().tolist()}
    values.add(float(model.generation_config.max_new_tokens))
    return values | {round(model.config.text_config.rms_norm_eps * 1e6, 3)}


def values_of_processor(processor: LaVITProcessor) -> set[float]:
    values = {processor.chat_template.strip("{# }")}
    values |= {processor.image_processor.size["height"] / 16, 2 if "pear" in processor.tokenizer.get_vocab() else 1}
    return {float(value) for value in values}


def load_model(folder: Path, variant: str | None = None) -> set[float]:
    lavit_hf.lavit.atomic_saving.finish_interrupted_save(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, variant=variant)  # which does not look by itself
    return values_of_model(model)


def load_processor(folder: Path) -> set[float]:
    return values_of_processor(LaVITProcessor.from_pretrained(folder))


def load_pipeline(folder: Path) -> set[float]:
    pipeline = LaVITPipeline.from_pretrained(folder)
    values = {pipeline.scheduler.config.num_train_timesteps / 100, *values_of_processor(pipeline.processor)}
    for part in (pipeline.detokenizer, pipeline.unet, pipeline.vae):
        values |= {value for tensor in part.state_dict().values() for value in tensor.unique().tolist()}
    values |= set(pipeline.detokenizer.codebook.unique().tolist())
    if pipeline.language_model is not None:
        values |= values_of_model(pipeline.language_model)
    return values


def state_of(load: Callable[[Path], set[float]], folder: Path) -> str:
    try:
        values = load(folder)
    except (OSError, ValueError) as error:
        assert len(str(error)) > 20
        return "refused"
    assert values in ({1.0}, {2.0}), f"a mixture: {values}"
    return "old" if values == {1.0} else "new"


class Loader:
    """Loads what kills leave: each folder as it lies and by lavit_hf, those that are alike once."""

    def __init__(self, load: Callable[[Path], set[float]], monkeypatch):
        self.load, self.monkeypatch, self.known = load, monkeypatch, {}

    def __call__(self, folder: Path) -> tuple[str, str]:
        key = self._digest(folder)
        if key not in self.known:
            with self.monkeypatch.context() as patched:
                for module in [module for name, module in sys.modules.items() if name.startswith("lavit_hf.")]:
                    if hasattr(module, "finish_interrupted_save"):
                        patched.setattr(module, "finish_interrupted_save", lambda folder: None)
                as_it_lies = state_of(self.load, folder)
            self.known[key] = as_it_lies, state_of(self.load, folder)
        return self.known[key]

    def _digest(self, folder: Path) -> str:
        digest, counts = hashlib.sha256(), (folder / SAVE_FOLDER / CHANGES_NAME).exists()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if counts or SAVE_FOLDER not in path.parts:
                digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
        return digest.hexdigest()


@pytest.fixture(autouse=True)
def without_bars(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module")
def models() -> SimpleNamespace:
    return SimpleNamespace(old=model_with(1), new=model_with(2))


@pytest.fixture(scope="module")
def processors() -> SimpleNamespace:
    return SimpleNamespace(old=processor_with(1), new=processor_with(2))


@pytest.fixture(scope="module")
def pipelines() -> SimpleNamespace:
    return SimpleNamespace(old=pipeline_with(1), new=pipeline_with(2), half=pipeline_with(2, False))


def sweep(old, new, load, tmp_path, monkeypatch, stride: int = 1) -> Counter:
    """Kills `new` over what `old` has written, and counts what is left."""
    old(tmp_path / "old")
    (tmp_path / "old" / "notes.txt").write_text("mine")
    (tmp_path / "old" / ".git").mkdir()
    (tmp_path / "old" / ".git" / "HEAD").write_text("main")
    found = Counter()
    copy = partial(shutil.copytree, tmp_path / "old", dirs_exist_ok=True)
    load = Loader(load, monkeypatch)
    for folder in kill_everywhere(new, copy, tmp_path / "kills", stride):
        as_it_lies, loaded = load(folder)
        assert (as_it_lies, loaded) in (("old", "old"), ("old", "new"), ("refused", "new"), ("new", "new"))
        assert (folder / "notes.txt").read_text() == "mine" and (folder / ".git" / "HEAD").read_text() == "main"
        found[loaded] += 1
        found[f"{as_it_lies} as it lies"] += 1
    print(dict(found))
    assert loaded == as_it_lies == "new" and not (folder / SAVE_FOLDER).exists()  # the last was not killed
    return found


SAVES = {
    "one file over one": ({}, {}),
    "one file over several": (SMALL_FILES, {}),
    "several files over one": ({}, SMALL_FILES),
    "several files over several": (SMALL_FILES, {"max_shard_size": "70KB"}),
    "a variant": (SMALL_FILES | {"variant": "fp16"}, {"variant": "fp16"}),
}


class TestModel:
    @pytest.mark.parametrize(("kind", "stride"), [(kind, 5) for kind in list(SAVES)[1:3]])
    def test_some_kills(self, models, tmp_path, monkeypatch, kind, stride):
        self.kill(models, tmp_path, monkeypatch, kind, stride)

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("kind", list(SAVES))
    def test_kills(self, models, tmp_path, monkeypatch, kind):
        self.kill(models, tmp_path, monkeypatch, kind)

    def kill(self, models, tmp_path, monkeypatch, kind: str, stride: int = 1) -> None:
        before, after = SAVES[kind]
        load = partial(load_model, variant=after.get("variant"))
        old, new = partial(models.old.save_pretrained, **before), partial(models.new.save_pretrained, **after)
        found = sweep(old, new, load, tmp_path, monkeypatch, stride)
        assert found["old"] and found["new"] and found["refused as it lies"]

    def test_the_source_stays(self, models, tmp_path):
        models.old.save_pretrained(tmp_path, include_code=True)
        models.new.save_pretrained(tmp_path)
        assert (tmp_path / "code" / "atomic_saving.py").is_file()
        assert "auto_map" in json.loads((tmp_path / "config.json").read_text())

    def test_nothing_is_left_of_a_save_that_fails(self, models, tmp_path):
        models.old.save_pretrained(tmp_path / "old")
        before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
        for folder in ("old", "new"):
            with pytest.raises(ValueError):
                models.new.save_pretrained(tmp_path / folder, max_shard_size="much")
        assert not (tmp_path / "new").exists()
        assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before

    def test_only_the_main_process_writes(self, models, tmp_path):
        models.old.save_pretrained(tmp_path)
        models.new.save_pretrained(tmp_path, is_main_process=False)
        assert load_model(tmp_path) == {1.0}

    @pytest.mark.slow
    def test_loads_by_every_class(self, models, tmp_path, monkeypatch):
        """What was cut short is finished, whatever is loaded first."""
        models.old.save_pretrained(tmp_path / "old")
        copy = partial(shutil.copytree, tmp_path / "old", dirs_exist_ok=True)
        classes = (LaVITForCausalLM, LaVITModel, LaVITVisualTokenizer, LaVITConfig)
        for number, folder in enumerate(kill_everywhere(models.new.save_pretrained, copy, tmp_path / "kills", 3)):
            if (folder / SAVE_FOLDER / CHANGES_NAME).exists():
                classes[number % len(classes)].from_pretrained(folder)
                assert load_model(folder) == {2.0} and not (folder / SAVE_FOLDER).exists()

    def test_weights_stay_where_no_old_time_can_be_stored(self, tmp_path, monkeypatch):
        """As on FAT, whose times begin in 1980."""
        utime, first_day = os.utime, 315_532_800
        monkeypatch.setattr("lavit_hf.lavit.atomic_saving.os.utime", lambda path, _: utime(path, (first_day,) * 2))
        (tmp_path / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}" + b"weights")
        (tmp_path / "notes.json").write_text("1")
        with atomic_update(tmp_path) as new:
            (new / "notes.json").write_text("2")
        assert (tmp_path / "model.safetensors").read_bytes() == b"\x02" + bytes(7) + b"{}" + b"weights"
        assert (tmp_path / "notes.json").read_text() == "2"

    def test_a_folder_without_configuration_is_no_model(self, models, tmp_path):
        """transformers would build one of 7 billion random weights."""
        models.old.save_pretrained(tmp_path)
        (tmp_path / "config.json").unlink()
        with pytest.raises(OSError, match=r"has no config\.json"):
            LaVITForCausalLM.from_pretrained(tmp_path)


class TestHostileChanges:
    """A list of changes may come with a folder from anywhere."""

    @pytest.mark.parametrize("name", ["../victim.txt", "{folder}/../victim.txt", "link/victim.txt"])
    @pytest.mark.parametrize("kind", ["written", "removed"])
    def test_nothing_outside_is_touched(self, tmp_path, name, kind):
        folder, outside = tmp_path / "repo", tmp_path / "outside"
        new = folder / SAVE_FOLDER / "new"
        for place in (new, outside, new / "link"):
            place.mkdir(parents=True)
        (folder / "link").symlink_to(outside)
        for path in (tmp_path / "victim.txt", outside / "victim.txt", new / "victim.txt", new / "link" / "victim.txt"):
            path.write_text(str(path))
        changes = {"written": [], "removed": [], kind: [name.format(folder=folder)]}
        (folder / SAVE_FOLDER / CHANGES_NAME).write_text(json.dumps(changes))
        with pytest.raises(OSError, match="not in"):
            LaVITConfig.from_pretrained(folder)
        for path in (tmp_path / "victim.txt", outside / "victim.txt"):
            assert path.read_text() == str(path)

    @pytest.mark.parametrize(("owner", "is_trusted"), [("other", False), ("root", True), ("own", True)])
    def test_changes_above_a_folder(self, tmp_path, monkeypatch, owner, is_trusted):
        """Whoever may write to the folder above can't change files by it that they may not change themselves."""
        folder, save_folder = tmp_path / "model", tmp_path / SAVE_FOLDER
        (save_folder / "new" / "model").mkdir(parents=True)
        LaVITConfig().save_pretrained(folder)
        (save_folder / "new" / "model" / "config.json").write_text("{}")
        changes = {"written": ["model/config.json"], "removed": []}
        (save_folder / CHANGES_NAME).write_text(json.dumps(changes))
        owners = {"root": 0, "own": 1000, "other": 1001}
        monkeypatch.setattr(
            lavit_hf.lavit.atomic_saving,
            "_owner",
            lambda path: owners[owner if path == save_folder else "own"],
        )
        finish_interrupted_save(folder)
        assert ((folder / "config.json").read_text() == "{}") == is_trusted
        assert save_folder.exists() != is_trusted

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"written": 1, "removed": []}', '{"written": [1], "removed": []}']
    )
    def test_damaged(self, tmp_path, text):
        (tmp_path / SAVE_FOLDER / "new").mkdir(parents=True)
        (tmp_path / SAVE_FOLDER / CHANGES_NAME).write_text(text)
        with pytest.raises(OSError, match="interrupted and cannot be completed"):
            LaVITProcessor.from_pretrained(tmp_path)


class TestProcessor:
    @pytest.mark.slow
    def test_kills(self, processors, tmp_path, monkeypatch):
        found = sweep(
            processors.old.save_pretrained, processors.new.save_pretrained, load_processor, tmp_path, monkeypatch
        )
        assert found["old"] and found["new"] and found["refused as it lies"]


PIPELINE_SAVES = {
    "over a pipeline": ("old", {}, {}),
    "over one in small files": ("old", SMALL_FILES, {}),
    "in small files": ("old", {}, SMALL_FILES),
}


class TestPipeline:
    @pytest.mark.exhaustive
    @pytest.mark.parametrize("kind", PIPELINE_SAVES)
    def test_kills(self, pipelines, tmp_path, monkeypatch, kind):
        _, before, after = PIPELINE_SAVES[kind]
        old = partial(pipelines.old.save_pretrained, **before)
        found = sweep(old, partial(pipelines.new.save_pretrained, **after), load_pipeline, tmp_path, monkeypatch)
        assert found["old"] and found["new"] and found["refused as it lies"]

    @pytest.mark.slow
    def test_some_kills(self, pipelines, tmp_path, monkeypatch):
        old, new = pipelines.old.save_pretrained, pipelines.new.save_pretrained
        assert sweep(old, new, load_pipeline, tmp_path, monkeypatch, stride=17)["new"]

    @pytest.mark.exhaustive
    def test_model_into_a_pipeline(self, pipelines, models, tmp_path, monkeypatch):
        """The language model's folder and the top are one."""
        found = sweep(pipelines.old.save_pretrained, models.new.save_pretrained, load_model, tmp_path, monkeypatch)
        assert found["old"] and found["new"] and found["refused as it lies"]


class TestAdapter:
    """What peft saves, by way of [`LaVITTrainer`]."""

    @pytest.fixture
    def save(self, tmp_path):
        peft, trainer = pytest.importorskip("peft"), pytest.importorskip("lavit_hf.training.trainer")

        def save_with(value: float) -> Callable[[str], None]:
            config = peft.LoraConfig(r=int(value), target_modules=["q_proj", "v_proj"])
            model = peft.get_peft_model(model_with(1), config)
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    torch.nn.init.constant_(weight, value)
            args = TrainingArguments(str(tmp_path / "run"), use_cpu=True, report_to=[])
            return trainer.LaVITTrainer(model, args).save_model

        return save_with

    def load(self, folder: Path) -> set[float]:
        from peft import PeftModel

        lavit_hf.lavit.atomic_saving.finish_interrupted_save(folder)  # as loading the processor beside it does
        model = PeftModel.from_pretrained(model_with(1), folder)
        weights = [weight.flatten() for name, weight in model.named_parameters() if "lora_" in name]
        return {*torch.cat(weights).tolist(), float(model.peft_config["default"].r)}

    @pytest.mark.slow
    def test_kills(self, save, tmp_path, monkeypatch):
        found = sweep(save(1), save(2), self.load, tmp_path, monkeypatch, stride=2)
        assert found["old"] and found["new"] and found["refused as it lies"]

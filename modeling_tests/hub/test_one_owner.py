# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A repo has one owner of each weight: whatever was saved last, and by whom, every door reads it."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTModel,
)

from hub_client import assert_same_weights, publish
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITModel,
    LaVITPipeline,
    LaVITProcessor,
    LaVITVisualTokenizer,
    bundled_checkpoint,
)
from lavit_hf.hub.repo_layout import MOVED_MODULES
from lavit_hf.lavit.checkpoint_index import remove_outdated_weights


CAT = str(Path(__file__).parents[2] / "examples" / "images" / "cat.jpg")
SMALL, SMALLER = "2MB", "300KB"  # of shards


@pytest.fixture
def repo(repos, tmp_path):
    """The repo of a whole pipeline, to be changed."""
    return shutil.copytree(repos["lowres"], tmp_path / "repo")


@pytest.fixture(scope="module")
def original(repos):
    return LaVITForCausalLM.from_pretrained(repos["lowres"])


@pytest.fixture(scope="module")
def tuned(repos):
    """The same model after a training, every part of it."""
    return tune(LaVITForCausalLM.from_pretrained(repos["lowres"]))


@torch.no_grad()
def tune(model):
    for parameter in model.parameters():
        parameter.mul_(1.5)
    return model


def assert_every_door_reads(repo, model, **kwargs):
    """Every class that loads out of the repo of a pipeline has a model's weights."""
    whole = [cls.from_pretrained(repo, **kwargs) for cls in (LaVITForCausalLM, AutoModel, AutoModelForImageTextToText)]
    whole.append(LaVITPipeline.from_pretrained(repo, **kwargs).language_model)
    for loaded in whole:
        assert_same_weights(loaded, model)
    assert_same_weights(LaVITModel.from_pretrained(repo, **kwargs), model.model)
    assert_same_weights(LaVITVisualTokenizer.from_pretrained(repo, **kwargs), model.visual_tokenizer)
    decoder = LaVITPipeline.from_pretrained(repo, language_model=None, **kwargs)
    assert decoder.detokenizer.codebook.shape == model.visual_tokenizer.quantizer.codebook.weight.shape


def stored_tensors(repo) -> Counter:
    """How often the repo holds each tensor of the language model."""
    names = Counter()
    for path in [*repo.glob("*.safetensors"), *(repo / "language_model").glob("*.safetensors")]:
        with safe_open(path, framework="pt") as weights:
            names.update(weights.keys())
    return names


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestModelSavedIntoAPipeline:
    @pytest.mark.parametrize(
        ("before", "now"), [(None, None), (SMALLER, None), (None, SMALLER), (SMALLER, SMALL)], ids=str
    )
    def test_every_door_reads_it(self, repo, original, tuned, before, now):
        """In one file or in several, over one file or over several."""
        if before is not None:
            original.save_pretrained(repo, max_shard_size=before)
        tuned.save_pretrained(repo, **({} if now is None else {"max_shard_size": now}))
        assert_every_door_reads(repo, tuned)
        stored = stored_tensors(repo)
        assert set(stored.values()) == {1}
        assert stored.keys() == json.loads((repo / "model.safetensors.index.json").read_text())["weight_map"].keys()
        assert not list(repo.glob("*.safetensors"))

    def test_over_a_model_that_was_saved_at_the_top(self, repo, original, tuned, tmp_path):
        """As earlier versions did."""
        original.save_pretrained(tmp_path / "top")
        shutil.copytree(tmp_path / "top", repo, dirs_exist_ok=True)
        tuned.save_pretrained(repo)
        assert_every_door_reads(repo, tuned)
        assert set(stored_tensors(repo).values()) == {1}

    @pytest.mark.slow
    @pytest.mark.parametrize("max_shard_size", ["1GB", SMALLER])
    def test_as_a_variant(self, repo, original, tuned, max_shard_size):
        tuned.save_pretrained(repo, variant="tuned", max_shard_size=max_shard_size)
        assert_every_door_reads(repo, original)
        for cls in (LaVITForCausalLM, AutoModelForImageTextToText):
            assert_same_weights(cls.from_pretrained(repo, variant="tuned"), tuned)
        assert_same_weights(LaVITModel.from_pretrained(repo, variant="tuned"), tuned.model)
        assert_same_weights(LaVITVisualTokenizer.from_pretrained(repo, variant="tuned"), tuned.visual_tokenizer)
        assert_same_weights(LaVITPipeline.from_pretrained(repo, variant="tuned").language_model, tuned)

    def test_the_default_beside_shards_of_a_variant(self, repo, original, tuned):
        """transformers removes those, and an index of them must not stay."""
        original.save_pretrained(repo, variant="fp16", max_shard_size=SMALLER)
        tuned.save_pretrained(repo)
        assert_every_door_reads(repo, tuned)
        assert not list(repo.rglob("*fp16*"))

    def test_the_configuration_too(self, repo, original):
        config = LaVITConfig.from_pretrained(repo)
        config.visual_tokenizer_config.selection = "ratio"
        config.save_pretrained(repo)
        for cls in (LaVITForCausalLM, LaVITPipeline):
            loaded = cls.from_pretrained(repo)
            model = getattr(loaded, "language_model", loaded) if cls is LaVITPipeline else loaded
            assert model.visual_tokenizer.config.selection == "ratio"

    def test_keeps_the_source_that_the_repo_has(self, repo, tuned):
        (repo / "code" / "modeling_lavit.py").write_text("outdated")
        tuned.save_pretrained(repo)
        assert "auto_map" in json.loads((repo / "config.json").read_text())
        assert "class LaVITForCausalLM" in (repo / "code" / "modeling_lavit.py").read_text()


class TestPushedIntoAPipeline:
    @pytest.mark.slow
    @pytest.mark.parametrize("max_shard_size", ["1GB", SMALLER])
    def test_every_door_reads_it(self, owner, repos, tuned, max_shard_size):
        repo_id = publish_anew(owner, repos["lowres"])
        tuned.push_to_hub(repo_id, max_shard_size=max_shard_size)
        assert_every_door_reads(repo_id, tuned)
        tree = owner.repos[repo_id].tree()
        assert not [path for path in tree if path.endswith(".safetensors") and "/" not in path]
        assert ("language_model/model.safetensors" in tree) == (max_shard_size == "1GB")

    @pytest.mark.slow
    def test_out_of_a_folder_of_its_own(self, owner, repos, tuned, tmp_path):
        repo_id = publish_anew(owner, repos["lowres"])
        tuned.save_pretrained(tmp_path, push_to_hub=True, repo_id=repo_id)
        assert_same_weights(LaVITForCausalLM.from_pretrained(tmp_path), tuned)
        assert_every_door_reads(repo_id, tuned)

    def test_the_configuration_too(self, owner, repos):
        repo_id = publish_anew(owner, repos["lowres"])
        config = LaVITConfig.from_pretrained(repo_id)
        config.visual_tokenizer_config.selection = "ratio"
        config.push_to_hub(repo_id)
        for loaded in (
            LaVITForCausalLM.from_pretrained(repo_id),
            LaVITPipeline.from_pretrained(repo_id).language_model,
        ):
            assert loaded.visual_tokenizer.config.selection == "ratio"

    def test_a_visual_tokenizer_alone_is_refused(self, owner, repos, tuned):
        repo_id = publish_anew(owner, repos["lowres"])
        before = owner.repos[repo_id].tree()
        for part in (tuned.visual_tokenizer, tuned.visual_tokenizer.config):
            with pytest.raises(ValueError, match=f"{repo_id} holds a full LaVIT"):
                part.push_to_hub(repo_id)
        assert owner.repos[repo_id].tree() == before


def publish_anew(hub, folder) -> str:
    return publish(hub, f"org/owned-{len(hub.repos)}", folder)


class TestRefused:
    """What cannot take the place of the language model, and then changes no file."""

    @pytest.mark.parametrize("kind", ["visual tokenizer", "its configuration", "detokenizer", "bare model", "adapter"])
    def test_in_a_pipeline(self, repo, repos, kind):
        pipeline = LaVITPipeline.from_pretrained(repos["lowres"])
        model = pipeline.language_model
        if kind == "adapter":
            model._hf_peft_config_loaded = True  # as `add_adapter` leaves it
        saved, message = {
            "visual tokenizer": (
                model.visual_tokenizer,
                "holds a full LaVIT model, which a lavit_visual_tokenizer would",
            ),
            "its configuration": (model.visual_tokenizer.config, "holds a full LaVIT"),
            "detokenizer": (pipeline.detokenizer, "holds a full LaVIT model, which a lavit_detokenizer would"),
            "bare model": (model.model, "a LaVITModel without an output head"),
            "adapter": (model, "an adapter"),
        }[kind]
        before = contents(repo)
        with pytest.raises(ValueError, match=message):
            saved.save_pretrained(repo)
        assert contents(repo) == before

    def test_a_part_over_a_whole_model(self, tuned, tmp_path):
        tuned.save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="holds a full LaVIT"):
            tuned.visual_tokenizer.save_pretrained(tmp_path)
        assert_same_weights(LaVITForCausalLM.from_pretrained(tmp_path), tuned)


class TestModelInAFolderOfItsOwn:
    @pytest.mark.parametrize("variant", [None, "fp16"])
    @pytest.mark.parametrize("sizes", [("1GB", SMALLER), (SMALLER, "1GB"), (SMALLER, SMALL)], ids=str)
    def test_over_another(self, original, tuned, tmp_path, sizes, variant):
        for model, size in zip((original, tuned), sizes):
            model.save_pretrained(tmp_path, max_shard_size=size, variant=variant)
        assert_same_weights(LaVITForCausalLM.from_pretrained(tmp_path, variant=variant), tuned)
        tokenizer = LaVITVisualTokenizer.from_pretrained(tmp_path, variant=variant)
        assert_same_weights(tokenizer, tuned.visual_tokenizer)
        assert set(stored_tensors(tmp_path).values()) == {1}

    def test_beside_an_index_of_another_folder(self, original, repo, tuned):
        """What is left of a pipeline's repo is overwritten, not read."""
        (repo / "model_index.json").unlink()
        tuned.save_pretrained(repo)
        assert_same_weights(LaVITForCausalLM.from_pretrained(repo), tuned)
        assert_same_weights(LaVITVisualTokenizer.from_pretrained(repo), tuned.visual_tokenizer)

    def test_nothing_current_is_removed(self, tuned, tmp_path):
        tuned.save_pretrained(tmp_path, max_shard_size=SMALLER)
        before = contents(tmp_path)
        remove_outdated_weights(tmp_path)
        assert contents(tmp_path) == before


class TestVariants:
    @pytest.mark.slow
    @pytest.mark.parametrize("max_shard_size", ["1GB", SMALLER])
    @pytest.mark.parametrize("door", ["model", "pipeline"])
    def test_saved_by_one_door_loads_by_all(self, repos, tuned, tmp_path, door, max_shard_size):
        pipeline = LaVITPipeline.from_pretrained(repos["lowres"], language_model=tuned)
        saved = pipeline if door == "pipeline" else tuned
        saved.save_pretrained(tmp_path, variant="fp16", max_shard_size=max_shard_size)
        if door == "pipeline":
            assert_every_door_reads(tmp_path, tuned, variant="fp16")
            return
        for cls in (LaVITForCausalLM, AutoModel, AutoModelForImageTextToText):
            assert_same_weights(cls.from_pretrained(tmp_path, variant="fp16"), tuned)
        assert_same_weights(LaVITModel.from_pretrained(tmp_path, variant="fp16"), tuned.model)
        assert_same_weights(LaVITVisualTokenizer.from_pretrained(tmp_path, variant="fp16"), tuned.visual_tokenizer)

    def test_of_the_visual_tokenizer_with_a_configuration_that_was_loaded(self, repo, tuned):
        tuned.save_pretrained(repo, variant="fp16")
        config = LaVITVisualTokenizer.config_class.from_pretrained(repo)
        loaded = LaVITVisualTokenizer.from_pretrained(repo, config=config, variant="fp16")
        assert_same_weights(loaded, tuned.visual_tokenizer)

    def test_of_the_visual_tokenizer_from_the_hub(self, owner, repo, tuned):
        tuned.save_pretrained(repo, variant="fp16", max_shard_size=SMALL)
        repo_id = publish_anew(owner, repo)
        loaded = LaVITVisualTokenizer.from_pretrained(repo_id, variant="fp16")
        assert_same_weights(loaded, tuned.visual_tokenizer)
        assert "language_model/model.safetensors" not in {request.file for request in owner.downloads()}

    @pytest.mark.parametrize("cls", [LaVITForCausalLM, LaVITModel, LaVITVisualTokenizer, AutoModelForImageTextToText])
    def test_that_is_not_there(self, repos, cls):
        with pytest.raises(OSError, match=r"no file named model\.bf16\.safetensors"):
            cls.from_pretrained(repos["lowres"], variant="bf16")

    @pytest.mark.parametrize("saved", ["model", "pipeline"])
    def test_alone_is_no_default(self, repos, tuned, tmp_path, saved):
        pipeline = LaVITPipeline.from_pretrained(repos["lowres"], language_model=tuned)
        (pipeline if saved == "pipeline" else tuned).save_pretrained(tmp_path, variant="fp16")
        for cls in (LaVITForCausalLM, LaVITVisualTokenizer):
            with pytest.raises(OSError, match=r"no file named model\.safetensors"):
                cls.from_pretrained(tmp_path)


class TestOnTheDisk:
    """A device map that leaves parts on the disk, for a repo whose index points into a folder."""

    @pytest.mark.parametrize("source", ["folder", "hub"])
    @pytest.mark.parametrize(
        ("cls", "prefix"), [(LaVITForCausalLM, "model."), (AutoModel, "model."), (LaVITModel, "")]
    )
    def test_gives_the_same(self, repos, request, monkeypatch, tmp_path, cls, prefix, source):
        monkeypatch.chdir(repos["lowres"].parent)
        repo = repos["lowres"].name
        if source == "hub":
            request.getfixturevalue("reader")
            repo = request.getfixturevalue("published")
        parts = {"visual_tokenizer": "cpu", "understanding": "cpu", "language_model": "disk"}
        device_map = {prefix + name: device for name, device in parts.items()} | ({"lm_head": "cpu"} if prefix else {})
        settings = {"dtype": torch.float32}
        plain = cls.from_pretrained(repo, **settings)
        on_disk = cls.from_pretrained(repo, device_map=device_map, offload_folder=tmp_path, **settings)
        assert on_disk.get_input_embeddings().weight.is_meta
        ids = torch.arange(4, 12)[None]
        with torch.no_grad():
            assert torch.equal(on_disk(input_ids=ids)[0], plain(input_ids=ids)[0])

    def test_visual_tokenizer(self, repos, tmp_path):
        plain = LaVITVisualTokenizer.from_pretrained(repos["lowres"], dtype=torch.float32)
        devices = {name: "cpu" for name, _ in plain.named_children()} | {"encoder": "disk"}
        on_disk = LaVITVisualTokenizer.from_pretrained(
            repos["lowres"], dtype=torch.float32, device_map=devices, offload_folder=tmp_path
        )
        pixel_values = torch.linspace(-1, 1, 3 * plain.config.image_size**2).view(1, 3, plain.config.image_size, -1)
        with torch.no_grad():
            features = (model.encode(pixel_values).last_hidden_state for model in (plain, on_disk))
            assert torch.equal(*features)


def build(text_model) -> LaVITForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    vision = ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes))
    del sizes["hidden_size"]
    return LaVITForCausalLM.from_backbones(
        vision, text_model(), codebook_size=16, codebook_dim=8, selection="threshold", **sizes
    ).eval()


LLAMA = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT_MODELS = {
    "gpt2, tied": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=2)),
    "llama, untied": lambda: LlamaForCausalLM(LlamaConfig(intermediate_size=64, **LLAMA)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(intermediate_size=64, tie_word_embeddings=True, **LLAMA)),
}


class TestSameLogits:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("name", TEXT_MODELS)
    def test_new_models(self, tmp_path, name, dtype):
        model = build(TEXT_MODELS[name]).to(dtype)
        model.save_pretrained(tmp_path)
        self.check(tmp_path, model)
        tied = "tied" in name and "untied" not in name
        loaded = LaVITForCausalLM.from_pretrained(tmp_path)
        assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) == tied

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("source", ["converted", "bundled"])
    def test_released_models(self, repos, tmp_path, source, dtype):
        pipeline = LaVITPipeline.from_pretrained(repos["lowres"] if source == "converted" else bundled_checkpoint())
        model = pipeline.language_model.to(dtype)
        model.visual_tokenizer.config.selection = "threshold"
        pipeline.save_pretrained(tmp_path)
        self.check(tmp_path, model)
        again = LaVITPipeline.from_pretrained(tmp_path).language_model
        assert torch.equal(logits_of(again), logits_of(model))

    def check(self, folder, model):
        expected = logits_of(model)
        assert expected.dtype == model.dtype
        loaded = LaVITForCausalLM.from_pretrained(folder)
        assert torch.equal(logits_of(loaded), expected)
        bare = LaVITModel.from_pretrained(folder)
        with torch.no_grad():
            assert torch.equal(model.lm_head(hidden_states_of(bare)), model.lm_head(hidden_states_of(model.model)))


def inputs_of(model) -> dict[str, torch.Tensor]:
    """A text with an image."""
    config = model.config
    size = config.visual_tokenizer_config.image_size
    pixel_values = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    ids = torch.tensor([[5, 6, config.image_start_token_id, config.image_end_token_id, 7, 8, 9]])
    return {"input_ids": ids, "pixel_values": pixel_values.to(model.dtype)}


@torch.no_grad()
def logits_of(model) -> torch.Tensor:
    return model(**inputs_of(model)).logits


@torch.no_grad()
def hidden_states_of(model) -> torch.Tensor:
    return model(**inputs_of(model)).last_hidden_state


OLD_NAMES = {new.rpartition(".")[2]: old for old, new in MOVED_MODULES.items()}


@pytest.fixture
def older_repo(repo):
    """As earlier versions wrote it: source at the top, promised in every configuration, and modules by old names."""
    for path in (repo / "code").iterdir():
        path.rename(repo / path.name)
    (repo / "code").rmdir()
    for path in repo.rglob("*.json"):
        path.write_text(path.read_text().replace('"code/', '"'))
    shutil.copy(repo / "config.json", repo / "language_model")
    shutil.copy(repo / "processor_config.json", repo / "processor")
    index = json.loads((repo / "model_index.json").read_text())
    old = {
        name: [OLD_NAMES.get(str(value[0]).rpartition(".")[2], value[0]), *value[1:]]
        for name, value in index.items()
        if isinstance(value, list)
    }
    assert old["language_model"][0] == "lavit_hf.modeling_lavit"
    (repo / "model_index.json").write_text(json.dumps(index | old))
    return repo


class TestOlderRepo:
    @pytest.mark.slow
    @pytest.mark.parametrize("trust_remote_code", [None, True])
    def test_loads(self, older_repo, original, trust_remote_code):
        options = {} if trust_remote_code is None else {"trust_remote_code": True}
        loaded = AutoModelForImageTextToText.from_pretrained(older_repo, **options)
        assert type(loaded) is LaVITForCausalLM
        assert_same_weights(loaded, original)
        assert type(AutoProcessor.from_pretrained(older_repo, **options)) is LaVITProcessor
        assert_every_door_reads(older_repo, original)

    @pytest.mark.slow
    def test_is_overwritten(self, older_repo, tuned):
        """The promise of source at the top goes, and the pipeline's language model is the new one."""
        tuned.save_pretrained(older_repo)
        LaVITProcessor.from_pretrained(older_repo).save_pretrained(older_repo)
        assert_every_door_reads(older_repo, tuned)
        for name in ("config.json", "processor_config.json", "language_model/config.json"):
            assert "auto_map" not in (older_repo / name).read_text()

    @pytest.mark.slow
    def test_saved_by_the_pipeline(self, older_repo, original, tmp_path):
        LaVITPipeline.from_pretrained(older_repo).save_pretrained(tmp_path / "new")
        assert_every_door_reads(tmp_path / "new", original)
        index = (tmp_path / "new" / "model_index.json").read_text()
        assert not any(f'"{old}"' in index for old in MOVED_MODULES)

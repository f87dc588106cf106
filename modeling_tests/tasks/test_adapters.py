# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Adapters in the place of models: every command gives what base and adapter give that were put together by hand."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from PIL import Image, ImageChops
from transformers import AutoTokenizer, LlamaConfig

from command_line import STEPS, fail, json_lines, succeed
from hub_client import publish
from lavit_hf import LaVITForCausalLM, LaVITPipeline, LaVITProcessor
from lavit_hf.bundled import BUNDLED_CHECKPOINT
from lavit_hf.lavit.untrusted_files import CheckpointError
from lavit_hf.page.model import load_page_model
from lavit_hf.tasks.adapters import find_processor, read_adapter_config
from lavit_hf.tasks.exporting import export_language_model
from lavit_hf.tasks.failures import Failure
from lavit_hf.tasks.loading import load_language_model, load_processor
from lavit_hf.tasks.options import DType, ModelOptions, Quantization
from lavit_hf.tasks.repos import find_repo
from lavit_hf.tasks.whole_model import load_whole_model


peft = pytest.importorskip("peft")

FLOAT = ("--dtype", "float32")
TARGETS = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def repo(repos) -> str:
    return str(repos["highres"])


@pytest.fixture(scope="module")
def images(golden) -> list[str]:
    return [str(path) for path in golden.image_paths[:2]]


def save_adapter(repo: str | Path, folder: Path, **kwargs) -> Path:
    """An adapter that changes answers, as one that was trained does."""
    torch.manual_seed(0)
    model = LaVITForCausalLM.from_pretrained(repo, dtype=torch.float32)
    config = {"r": 4, "lora_alpha": 32, "target_modules": TARGETS, "init_lora_weights": False}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**config | kwargs))
    for name, parameter in adapted.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.02 * torch.randn_like(parameter)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(repo, tmp_path_factory) -> Path:
    """Of the language model and of how it reads images."""
    return save_adapter(
        repo, tmp_path_factory.mktemp("adapter") / "mine", modules_to_save=["understanding.projection"]
    )


@pytest.fixture(scope="module")
def by_hand(repo, adapter) -> LaVITForCausalLM:
    base = LaVITForCausalLM.from_pretrained(repo, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, adapter).eval()


@pytest.fixture(scope="module")
def merged(repo, adapter, tmp_path_factory) -> str:
    """The whole repo, its language model with the adapter in it."""
    folder = tmp_path_factory.mktemp("merged") / "repo"
    pipeline = LaVITPipeline.from_pretrained(repo)
    base = LaVITForCausalLM.from_pretrained(repo, dtype=torch.float32)
    pipeline.language_model = peft.PeftModel.from_pretrained(base, adapter).merge_and_unload()
    pipeline.save_pretrained(folder)
    return str(folder)


def rewrite(adapter: Path, folder: Path, **fields) -> Path:
    """A copy of an adapter that says something else."""
    shutil.copytree(adapter, folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


@pytest.fixture(scope="module")
def lowres_adapter(repos, published, tmp_path_factory) -> Path:
    """For the base that is on the Hub."""
    folder = tmp_path_factory.mktemp("hub_adapter")
    local = save_adapter(repos["lowres"], folder / "local")
    return rewrite(local, folder / "published", base_model_name_or_path=published)


@pytest.fixture(scope="module")
def hub_adapter(hub, lowres_adapter) -> str:
    """The id of a repo that holds only the adapter. Not to be changed."""
    return publish(hub, "org/adapter", lowres_adapter)


class TestAnswers:
    @pytest.mark.slow
    @pytest.mark.parametrize("command", [["caption"], ["ask", "What is it?"]])
    def test_texts(self, repo, adapter, merged, images, command):
        command, *question = command
        options = ("--json", "--seed", "0", *FLOAT)
        given = [json_lines(succeed(command, *question, *images, "-m", m, *options)) for m in (adapter, merged, repo)]
        assert given[0] == given[1]
        assert given[0] != given[2]

    def test_logits_are_those_of_base_and_adapter(self, repo, adapter, by_hand, images):
        options = ModelOptions(str(adapter), "cpu", DType.float32)
        assert find_repo(options.model) == repo
        inputs = load_processor(repo, options)(images=images, return_tensors="pt")
        model = load_language_model(repo, options)
        by_hand.get_base_model().visual_tokenizer.config.selection = "threshold"
        model.visual_tokenizer.config.selection = "threshold"
        with torch.no_grad():
            given, expected = model(**inputs).logits, by_hand(**inputs).logits
            with by_hand.disable_adapter():
                of_base = by_hand(**inputs).logits
        assert type(model) is LaVITForCausalLM and not model.training
        assert not any("lora_" in name for name, _ in model.named_parameters())
        assert (expected - of_base).abs().max() > 0.1
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)

    def test_quantized(self, adapter, images):
        """The adapter stands beside weights in few bits, as in training, and is not rounded into them."""
        pytest.importorskip("bitsandbytes")
        options = ModelOptions(str(adapter), "cpu", DType.float32, Quantization.eight_bit)
        model = load_language_model(find_repo(options.model), options)
        assert type(model) is LaVITForCausalLM
        saved = peft.load_peft_weights(adapter, device="cpu")
        held = peft.get_peft_model_state_dict(model, adapter_name="default")
        assert saved and all(torch.equal(held[name.removeprefix("base_model.model.")], saved[name]) for name in saved)

    @pytest.mark.slow
    def test_draw(self, repo, adapter, merged, tmp_path):
        """With the pixel decoder of the base."""
        ids = {}
        for name, model in {"adapter": adapter, "merged": merged, "base": repo}.items():
            options = ("-o", tmp_path / f"{name}.png", "--seed", "0", "--json", *STEPS, *FLOAT)
            ids[name] = json_lines(succeed("draw", "a cat", "-m", model, *options))[0]["token_ids"]
        assert ids["adapter"] == ids["merged"] != ids["base"]
        pictures = [Image.open(tmp_path / f"{name}.png") for name in ("adapter", "merged")]
        assert max(high for _, high in ImageChops.difference(*pictures).getextrema()) <= 1  # stored in other dtypes

    def test_tokens_are_the_bases(self, repo, adapter, images):
        options = ("--seed", "0", *FLOAT)
        assert succeed("tokenize", *images, "-m", adapter, *options) == succeed(
            "tokenize", *images, "-m", repo, *options
        )

    def test_page(self, repo, adapter, by_hand):
        model = load_page_model(ModelOptions(str(adapter), "cpu", DType.float32))
        assert model.name == f"highres with {adapter}"
        assert model.pipeline.language_model is model.language_model
        name = "model.understanding.projection"
        trained = by_hand.get_base_model().get_submodule(name).modules_to_save["default"].weight
        assert torch.equal(model.language_model.get_submodule(name).weight, trained)

    def test_info(self, repo, adapter):
        facts = json.loads(succeed("info", adapter, "--json"))
        assert facts.pop("adapter") == {"name": str(adapter), "type": "LORA", "rank": 4}
        assert facts == json.loads(succeed("info", repo, "--json"))


class TestFindingTheBase:
    def test_processor_beside_the_adapter_goes_first(self, repo, adapter, tmp_path):
        folder = rewrite(adapter, tmp_path / "with-processor")
        processor = LaVITProcessor.from_pretrained(repo, chat_template="mine")
        processor.save_pretrained(folder)
        assert load_processor(repo, ModelOptions(str(folder))).chat_template == "mine"
        assert load_processor(repo, ModelOptions(str(adapter))).chat_template != "mine"

    def test_tokenizer_beside_the_adapter_is_exported(self, repo, adapter, tmp_path):
        folder = rewrite(adapter, tmp_path / "with-processor")
        processor = LaVITProcessor.from_pretrained(repo)
        processor.tokenizer.model_max_length = 77
        processor.save_pretrained(folder)
        export_language_model(ModelOptions(str(folder), "cpu"), tmp_path / "exported")
        assert AutoTokenizer.from_pretrained(tmp_path / "exported").model_max_length == 77

    def test_language_model_of_a_pipeline(self, repo, adapter, tmp_path):
        """As a model that was taken out of a pipeline names its folder."""
        base = f"{repo}/language_model"
        folder = rewrite(adapter, tmp_path / "of-a-part", base_model_name_or_path=base)
        assert Path(base).is_dir() and find_repo(str(folder)) == repo

    def test_on_the_hub(self, reader, published, repos, hub_adapter, lowres_adapter):
        options = ModelOptions(hub_adapter, "cpu", DType.float32)
        assert find_repo(hub_adapter) == published
        by_hand = LaVITForCausalLM.from_pretrained(repos["lowres"], dtype=torch.float32)
        by_hand = peft.PeftModel.from_pretrained(by_hand, lowres_adapter).merge_and_unload().state_dict()
        given = load_language_model(published, options).state_dict()
        assert given.keys() == by_hand.keys()
        assert all(torch.equal(given[name], by_hand[name]) for name in given)

    @pytest.mark.slow
    @pytest.mark.parametrize("offline", [False, True])
    def test_from_the_cache(self, reader, published, hub_adapter, monkeypatch, offline):
        """With HF_HUB_OFFLINE=1, and without a network."""
        options = ModelOptions(hub_adapter, "cpu", DType.float32)

        def load() -> dict[str, torch.Tensor]:
            repo = find_repo(hub_adapter)
            load_processor(repo, options)
            return load_language_model(repo, options).state_dict()

        online = load()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with reader.unplugged():
            from_cache = load()
        assert all(torch.equal(online[name], from_cache[name]) for name in online)

    @pytest.mark.parametrize("download", [snapshot_download, peft.PeftConfig.from_pretrained])
    def test_is_known_from_the_cache(self, reader, published, hub_adapter, monkeypatch, download):
        """However it came there."""
        LaVITForCausalLM.from_pretrained(published)
        download(hub_adapter)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert find_repo(hub_adapter) == published

    def test_processor_that_may_be_on_the_hub(self, reader, hub_adapter, monkeypatch):
        """Whether the adapter has its own is not guessed."""
        peft.PeftConfig.from_pretrained(hub_adapter)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(Failure, match=r"does not tell whether .* has a processor_config\.json"):
            find_processor("repo", hub_adapter)

    def test_the_bundled_name_is_no_adapter(self, monkeypatch):
        """And is not looked up on the Hub, where anyone may take it."""
        looked_up = []
        monkeypatch.setattr("lavit_hf.tasks.hub_files.hf_hub_download", lambda *args: looked_up.append(args))
        assert read_adapter_config(BUNDLED_CHECKPOINT) is None
        assert find_processor("repo", BUNDLED_CHECKPOINT) == "repo"
        assert load_whole_model(ModelOptions(BUNDLED_CHECKPOINT, "cpu")).name == BUNDLED_CHECKPOINT
        assert looked_up == []


class TestBadInput:
    def refuse(self, folder: Path, images: list[str]) -> str:
        message = fail("caption", images[0], "-m", folder, "--device", "cpu")
        with pytest.raises((Failure, CheckpointError)):
            load_language_model(find_repo(str(folder)), ModelOptions(str(folder), "cpu"))
        return message

    def test_of_a_model_that_is_no_lavit(self, adapter, images, tmp_path):
        LlamaConfig().save_pretrained(tmp_path / "llama")
        folder = rewrite(adapter, tmp_path / "mine", base_model_name_or_path=str(tmp_path / "llama"))
        message = self.refuse(folder, images)
        assert (
            f"{folder} is an adapter for a model that cannot be used: {tmp_path}/llama is not a LaVIT model" in message
        )

    @pytest.mark.parametrize(
        ("base", "message"),
        [
            (5, "does not name its base model. Set base_model_name_or_path in its adapter_config.json"),
            (["a"], "does not name its base model. Set base_model_name_or_path in its adapter_config.json"),
            (None, "does not name its base model. Set base_model_name_or_path in its adapter_config.json"),
            ("no/such/folder", "cannot be used: there is no folder no/such/folder"),
        ],
    )
    def test_no_base(self, adapter, images, tmp_path, base, message):
        folder = rewrite(adapter, tmp_path / "mine", base_model_name_or_path=base)
        assert message in self.refuse(folder, images)

    def test_of_an_adapter(self, adapter, images, tmp_path):
        folder = rewrite(adapter, tmp_path / "mine", base_model_name_or_path=str(adapter))
        assert "which is an adapter too. Merge that one into its own base model first" in self.refuse(folder, images)

    def test_of_an_adapter_on_the_hub(self, reader, published, tmp_path):
        for name, base in (("org/inner", published), ("org/outer", "org/inner")):
            (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
            publish(reader, name, tmp_path)
        assert find_repo("org/inner") == published
        with pytest.raises(Failure, match="org/outer is an adapter for org/inner, which is an adapter too"):
            find_repo("org/outer")

    def test_of_a_lavit_of_other_sizes(self, adapter, images, tmp_path):
        from lavit_hf import bundled_checkpoint

        folder = rewrite(adapter, tmp_path / "mine", base_model_name_or_path=bundled_checkpoint())
        message = self.refuse(folder, images)
        assert f"the adapter {folder} does not fit {bundled_checkpoint()}: size mismatch" in message

    @pytest.mark.slow
    def test_of_other_layers(self, repo, adapter, images, tmp_path):
        """Of which PEFT would take what it knows, and pass over the rest."""
        folder = rewrite(adapter, tmp_path / "more", target_modules=["q_proj"])
        assert "does not fit" in (message := self.refuse(folder, images)) and "v_proj" in message
        folder = rewrite(adapter, tmp_path / "fewer", target_modules=[*TARGETS, "o_proj"])
        assert "does not fit" in (message := self.refuse(folder, images)) and "o_proj" in message
        folder = rewrite(adapter, tmp_path / "strange", target_modules=["c_attn"])
        assert "does not fit" in self.refuse(folder, images)

    def test_damaged(self, adapter, images, tmp_path):
        folder = rewrite(adapter, tmp_path / "cut")
        weights = folder / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        assert "adapter_model.safetensors cannot be read and is probably truncated" in self.refuse(folder, images)
        weights.write_bytes(b"")
        assert "adapter_model.safetensors cannot be read and is probably truncated" in self.refuse(folder, images)
        weights.unlink()
        assert "but no weights: adapter_model.safetensors is missing" in self.refuse(folder, images)
        for content in ("{", "5", '{"a":' * 50_000):
            (folder / "adapter_config.json").write_text(content)
            assert "adapter_config.json is not a usable JSON object" in self.refuse(folder, images)

    def test_no_change_of_layers(self, adapter, images, tmp_path):
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
        config.base_model_name_or_path = json.loads((adapter / "adapter_config.json").read_text())[
            "base_model_name_or_path"
        ]
        config.save_pretrained(tmp_path)
        shutil.copy(adapter / "adapter_model.safetensors", tmp_path)
        assert "is of type PROMPT_TUNING, which is not supported. Use an adapter of layers" in self.refuse(
            tmp_path, images
        )

    def test_without_peft(self, adapter, images, monkeypatch):
        monkeypatch.setitem(sys.modules, "peft", None)
        assert "needs PEFT. Run `pip install peft`" in fail("caption", images[0], "-m", adapter)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What each class trains, and that nothing else moves: by hand and with PEFT."""

import copy

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig

from lavit_hf import (
    LaVITForCausalLM,
    LaVITForPreTraining,
    LaVITModel,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.lavit.modeling_visual_tokenizer import LaVITVisionEncoder
from lavit_hf.lavit.repo_names import LAYER_NAMES, QUANTIZER_NAMES
from tiny_training_models import batch, build, pictures


def run(model) -> torch.Tensor:
    """The forward of training, and a scalar of what it gave."""
    if isinstance(model, LaVITVisualTokenizer):
        outputs = model(pictures())
        return torch.cat(outputs.quantized).square().sum() + torch.cat(outputs.merged).square().sum()
    if isinstance(model, LaVITVisualTokenizerForPreTraining):
        return model(pictures()).loss
    if isinstance(model, LaVITModel):
        inputs = batch()
        del inputs["labels"]
        return model(**inputs).last_hidden_state.square().sum()
    return model(**batch()).loss


def encoder_of(model) -> LaVITVisionEncoder:
    return next(module for module in model.modules() if isinstance(module, LaVITVisionEncoder))


def tokenizer_of(model) -> LaVITVisualTokenizer:
    return next(module for module in model.modules() if isinstance(module, LaVITVisualTokenizer))


CLASSES = [
    LaVITVisualTokenizer,
    LaVITModel,
    LaVITForCausalLM,
    LaVITForPreTraining,
    LaVITVisualTokenizerForPreTraining,
]
# What is not trained, by the beginnings of names.
FROZEN = {
    LaVITVisualTokenizer: ("encoder.", "quantizer.codebook."),
    LaVITModel: ("visual_tokenizer.",),
    LaVITForCausalLM: ("model.visual_tokenizer.",),
    LaVITForPreTraining: ("model.visual_tokenizer.",),
    LaVITVisualTokenizerForPreTraining: ("visual_tokenizer.encoder.", "visual_tokenizer.quantizer.codebook."),
}


@pytest.mark.parametrize("model_class", CLASSES)
class TestFrozen:
    @pytest.mark.parametrize("encoder", ["resnet", "clip"])
    def test_twenty_forwards_move_nothing(self, model_class, encoder):
        model = build(model_class, encoder)
        tokenizer, keeps_codebook = tokenizer_of(model), model_class is not LaVITVisualTokenizerForPreTraining
        before = copy.deepcopy(encoder_of(model).state_dict())
        with torch.no_grad():
            features, codes = tokenizer.encode(pictures()).last_hidden_state, tokenizer(pictures()).codes
            model.train()
            for _ in range(20):
                run(model)
            after = tokenizer(pictures())
        assert all(torch.equal(before[name], tensor) for name, tensor in encoder_of(model).state_dict().items())
        assert torch.equal(after.last_hidden_state, features)
        assert not keeps_codebook or all(map(torch.equal, after.codes, codes))

    def test_trains_what_it_says(self, model_class):
        model = build(model_class).train()
        run(model).backward()
        trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        expected = {name for name, _ in model.named_parameters() if not name.startswith(FROZEN[model_class])}
        assert trained == expected

    def test_loaded_and_cast_it_is_still_frozen(self, model_class, tmp_path):
        build(model_class).save_pretrained(tmp_path)
        model = model_class.from_pretrained(tmp_path)
        for changed in (model, model.to(torch.float64), model.train()):
            encoder = encoder_of(changed)
            assert not any(module.training for module in encoder.modules())
            assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_understanding_selector_is_trained():
    model = build(LaVITForCausalLM, understanding_selector=True).train()
    run(model).backward()
    assert all(parameter.grad is not None for parameter in model.understanding.parameters())


@pytest.mark.parametrize("model_class", [LaVITForCausalLM, LaVITForPreTraining])
def test_a_batch_without_images_has_a_gradient_for_the_same_weights(model_class):
    names = []
    for num_images in (2, 0):
        model = build(model_class).train()
        model(**batch(num_images)).loss.backward()
        names.append({name for name, parameter in model.named_parameters() if parameter.grad is not None})
    assert names[0] == names[1]
    assert not model.understanding.projection.weight.grad.any()


class TestNames:
    """What a repo calls otherwise."""

    @pytest.mark.parametrize("model_class", [model_class for model_class in CLASSES if model_class is not LaVITModel])
    def test_repos_keep_their_names(self, model_class, tmp_path):
        kwargs = {"understanding_selector": True} if issubclass(model_class, LaVITForCausalLM) else {}
        model = build(model_class, **kwargs)
        model.save_pretrained(tmp_path)
        with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
            names = set(file.keys())
        assert not any(part in name for name in names for part in LAYER_NAMES.values())
        assert not any(part in name for name in names for part in QUANTIZER_NAMES.values())
        mergers = [name for name in names if "merger.layers" in name]
        assert {name.rsplit(".", 2)[1] for name in mergers if "_attn." in name or "mlp." in name} == set(LAYER_NAMES)
        again, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        for name, tensor in model.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name
        again.save_pretrained(tmp_path / "again")
        with safe_open(tmp_path / "again" / "model.safetensors", framework="pt") as file:
            assert set(file.keys()) == names

    @pytest.mark.parametrize("model_class", [LaVITForCausalLM, LaVITVisualTokenizerForPreTraining])
    def test_a_state_dict_of_a_repo_is_loaded(self, model_class, tmp_path):
        """As `Trainer` does it that goes on from a checkpoint."""
        model = build(model_class)
        model.save_pretrained(tmp_path)
        torch.manual_seed(1)
        other = model_class(model.config)
        result = other.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)
        assert not result.missing_keys and not result.unexpected_keys
        assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


class TestLora:
    @pytest.fixture
    def peft(self):
        return pytest.importorskip("peft")

    @pytest.mark.parametrize(
        "targets",
        [["q_proj", "v_proj"], r".*(q|k|v|o)_proj", r".*proj", ["q_proj", "out_proj", "in_proj", "fc1", "fc2"]],
    )
    def test_by_name_it_finds_the_language_model_alone(self, peft, targets):
        adapted = peft.get_peft_model(build(LaVITForCausalLM), peft.LoraConfig(r=2, target_modules=targets)).train()
        run(adapted).backward()
        names = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
        assert names == {name for name, _ in adapted.named_parameters() if "lora_" in name}
        assert names and all(".language_model." in name for name in names)

    @pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
    @pytest.mark.parametrize("excluded", [None, r".*visual_tokenizer.*", ["k_proj"], r".*k_proj"])
    def test_none_in_the_visual_tokenizer(self, peft, tmp_path, targets, excluded):
        """Where an encoder calls its layers as language models do, or all are asked for."""
        model = build(LaVITForCausalLM, "clip").eval()
        codes = model.get_image_tokens(pictures())
        config = peft.LoraConfig(r=2, lora_dropout=0.5, target_modules=targets, exclude_modules=excluded)
        adapted = peft.get_peft_model(model, config).train()
        trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            adapted(**batch()).loss.backward()
            optimizer.step()
        names = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
        assert any(".language_model." in name for name in names)
        assert not any("visual_tokenizer" in name for name in names)
        assert names == {name for name, parameter in adapted.named_parameters() if "lora_" in name}
        assert all(map(torch.equal, adapted.get_base_model().get_image_tokens(pictures()), codes))
        adapted.save_pretrained(tmp_path)
        saved = set(peft.load_peft_weights(tmp_path, device="cpu"))
        assert saved == {name.replace(".default.", ".") for name in names}
        again = peft.get_peft_model(build(LaVITForCausalLM, "clip"), peft.PeftConfig.from_pretrained(tmp_path))
        result = again.load_adapter(tmp_path, "default")
        assert not result.missing_keys and not result.unexpected_keys
        expected = adapted.eval()(**batch()).logits
        torch.testing.assert_close(again.eval()(**batch()).logits, expected, rtol=0, atol=0)
        merged = adapted.merge_and_unload()(**batch()).logits
        torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)

    def test_saved_adapter_on_the_base_is_what_was_trained(self, peft, tmp_path):
        config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["understanding"])
        adapted = peft.get_peft_model(build(LaVITForCausalLM), config).train()
        optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            adapted(**batch()).loss.backward()
            optimizer.step()
        adapted.save_pretrained(tmp_path)
        again = peft.PeftModel.from_pretrained(build(LaVITForCausalLM), tmp_path).eval()
        before, expected = build(LaVITForCausalLM).eval()(**batch()).loss, adapted.eval()(**batch()).loss
        assert abs(before - expected) > 0.1
        torch.testing.assert_close(again(**batch()).loss, expected, rtol=0, atol=0)

    def test_by_transformers_itself(self, peft, tmp_path, monkeypatch):
        """As soon as its PEFT is there."""
        monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", peft.__version__)
        build(LaVITForCausalLM).save_pretrained(tmp_path / "base")
        model = LaVITForCausalLM.from_pretrained(tmp_path / "base")
        model.add_adapter(peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
        optimizer = torch.optim.AdamW([p for p in model.train().parameters() if p.requires_grad], lr=0.1)
        model(**batch()).loss.backward()
        optimizer.step()
        trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert trained == {name for name, _ in model.named_parameters() if "lora_" in name}
        assert trained and not any("visual_tokenizer" in name for name in trained)
        model.save_pretrained(tmp_path / "adapter")
        expected = model.eval()(**batch()).logits
        again = LaVITForCausalLM.from_pretrained(tmp_path / "base")
        again.load_adapter(str(tmp_path / "adapter"))
        for loaded in (again, LaVITForCausalLM.from_pretrained(tmp_path / "adapter")):
            torch.testing.assert_close(loaded.eval()(**batch()).logits, expected, rtol=0, atol=0)

    def test_of_another_peft(self, peft, tmp_path, monkeypatch):
        monkeypatch.setattr("transformers.integrations.peft.MIN_PEFT_VERSION", "999.0")
        model, config = build(LaVITForCausalLM), peft.LoraConfig(target_modules=["q_proj"])
        message = r"needs PEFT 999\.0 or newer .*`peft\.get_peft_model\(model, config\)` adds one"
        with pytest.raises(ValueError, match=message):
            model.add_adapter(config)
        model.save_pretrained(tmp_path / "base")
        base = LaVITForCausalLM.from_pretrained(tmp_path / "base")
        peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
        for load in (model.load_adapter, LaVITForCausalLM.from_pretrained):
            with pytest.raises(ValueError, match=message):
                load(str(tmp_path / "adapter"))

    def test_qlora_by_the_recipe(self, peft, tmp_path):
        """PEFT casts weights to fp32 and leaves buffers in bf16, of which batch norms make nothing."""
        pytest.importorskip("bitsandbytes")
        build(LaVITForCausalLM).save_pretrained(tmp_path)
        quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
        model = LaVITForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16, quantization_config=quantization)
        statistics = {name: buffer.clone() for name, buffer in encoder_of(model).named_buffers()}
        model = peft.prepare_model_for_kbit_training(model)
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).train()
        optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            losses.append(adapted(**batch()).loss)
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < losses[0]
        after = dict(encoder_of(adapted).named_buffers())
        assert all(torch.equal(after[name].to(buffer.dtype), buffer) for name, buffer in statistics.items())

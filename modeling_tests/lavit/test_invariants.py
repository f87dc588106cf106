# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What must hold of a LaVIT whatever made it, and which models none is made of."""

import copy
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTModel,
)

import lavit_hf
import lavit_hf.lavit.modeling_visual_tokenizer
from conftest import tiny_visual_config
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITForPreTraining,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerConfig,
    bundled_checkpoint,
)


TEXT_VOCAB = 40
TEXT_IDS = torch.tensor([[7, 21, 9, 33, 12, 30, 8, 17]])

# Language models of one size, each with what it must be told beyond that.
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "gpt2": {},
    "gemma": {},
    "gemma2": {"final_logit_softcapping": 3.0},
    "gemma3_text": {"final_logit_softcapping": 3.0},
    "gpt_neox": {},
    "phi": {},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
    "mixtral": {"num_local_experts": 4},
}


def text_model(family: str, dtype: torch.dtype = torch.float32, **kwargs) -> PreTrainedModel:
    """A tiny causal language model over `TEXT_VOCAB` ids, with weights that make a difference."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    if family == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2}
    elif family not in ("gpt_neox", "phi", "bert"):
        sizes |= {"num_key_value_heads": 2, "head_dim": 16}
    control = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = FAMILIES.get(family, {}) | kwargs
    attn_implementation = settings.pop("attn_implementation", None)
    config = AutoConfig.for_model(family, vocab_size=TEXT_VOCAB, initializer_range=0.2, **sizes, **control, **settings)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attn_implementation)


def vision_model(**kwargs) -> PreTrainedModel:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    return ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8, initializer_range=0.2), **kwargs)


VISUAL_SETTINGS = {
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "codebook_size": 24,
    "codebook_dim": 8,
    "selection": "threshold",
}


@dataclass
class Made:
    """
    A LaVIT, the logits of the language model that it was made of, from before that, and how far apart two ways to
    compute the same logits may be, as a share of their standard deviation.
    """

    model: PreTrainedModel
    text_logits: torch.Tensor | None = None
    tolerance: float = 1e-4


@torch.no_grad()
def logits_of(text: PreTrainedModel) -> torch.Tensor:
    return text.eval()(input_ids=TEXT_IDS).logits


def of_backbones(family: str, dtype: torch.dtype = torch.float32, tolerance: float = 1e-4, **kwargs) -> Made:
    text = text_model(family, dtype=dtype, **kwargs)
    logits = logits_of(text)
    return Made(LaVITForCausalLM.from_backbones(vision_model(), text, **VISUAL_SETTINGS), logits, tolerance)


def plain_config() -> LaVITConfig:
    config = copy.deepcopy(text_model("llama").config)
    config.vocab_size = TEXT_VOCAB + 26
    return LaVITConfig(text_config=config, visual_tokenizer_config=tiny_visual_config(selection="threshold"))


def of_visual_tokenizer() -> Made:
    torch.manual_seed(0)
    tokenizer = LaVITVisualTokenizer(tiny_visual_config(selection="threshold"))
    text = text_model("llama")
    logits = logits_of(text)
    return Made(LaVITForPreTraining.from_visual_tokenizer(tokenizer, text), logits)


def of_pretrained(path: Path) -> Made:
    return Made(LaVITForCausalLM.from_pretrained(path, dtype=torch.float32))


def saved(made: Made, folder: Path) -> Made:
    made.model.save_pretrained(folder)
    return Made(LaVITForCausalLM.from_pretrained(folder), made.text_logits)


def cast_to_bf16() -> Made:
    made = of_backbones("llama")
    return Made(made.model.to(torch.bfloat16), made.text_logits, tolerance=0.1)


def with_lora() -> Made:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=r".*language_model.*\.(q|v)_proj", init_lora_weights=False)
    return Made(peft.get_peft_model(of_backbones("llama").model, config))


def quantized(folder: Path, bits: int, tolerance: float) -> Made:
    pytest.importorskip("bitsandbytes")
    of_backbones("llama").model.save_pretrained(folder)
    config = BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
    return Made(LaVITForCausalLM.from_pretrained(folder, quantization_config=config), tolerance=tolerance)


CONSTRUCTORS: dict[str, Callable[[Path, Path], Made]] = {
    "converted": lambda converted, folder: of_pretrained(converted),
    "bundled": lambda converted, folder: of_pretrained(bundled_checkpoint()),
    "config": lambda converted, folder: Made(LaVITForCausalLM(plain_config())),
    "from_config": lambda converted, folder: Made(AutoModelForCausalLM.from_config(plain_config())),
    "from_visual_tokenizer": lambda converted, folder: of_visual_tokenizer(),
    "saved": lambda converted, folder: saved(of_backbones("llama"), folder),
    "saved-tied": lambda converted, folder: saved(of_backbones("llama", tie_word_embeddings=True), folder),
    "from_backbones-in-bf16": lambda converted, folder: of_backbones("llama", torch.bfloat16, tolerance=0.1),
    "cast-to-bf16": lambda converted, folder: cast_to_bf16(),
    "lora": lambda converted, folder: with_lora(),
    "8bit": lambda converted, folder: quantized(folder, bits=8, tolerance=0.1),
    "4bit": lambda converted, folder: quantized(folder, bits=4, tolerance=1e-4),
} | {
    f"from_backbones-{family}-{'tied' if tied else 'untied'}": (
        lambda converted, folder, family=family, tied=tied: of_backbones(family, tie_word_embeddings=tied)
    )
    for family in FAMILIES
    for tied in (True, False)
}


@pytest.fixture(scope="module", params=CONSTRUCTORS)
def made(request, converted, tmp_path_factory) -> Made:
    torch.manual_seed(0)
    made = CONSTRUCTORS[request.param](converted, tmp_path_factory.mktemp("made"))
    made.model.eval()
    made.model.visual_tokenizer.config.selection = "threshold"
    return made


def near(logits: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    difference = (logits.float() - expected.float()).abs().max().item()
    assert logits.shape == expected.shape
    assert difference <= tolerance * expected.float().std().item()


def pixels(model: PreTrainedModel, number: int = 1, seed: int = 5) -> torch.Tensor:
    size = model.config.visual_tokenizer_config.image_size
    images = torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return images.to(model.dtype)


def slot(model: PreTrainedModel) -> torch.Tensor:
    return torch.tensor([[model.config.image_start_token_id, model.config.image_end_token_id]])


class TestEveryConstructor:
    """What every LaVIT keeps, in a table of constructors and invariants."""

    @pytest.fixture(autouse=True)
    def without_gradients(self):
        with torch.no_grad():
            yield

    def test_causality(self, made):
        changed = TEXT_IDS.clone()
        changed[0, -1] += 1
        first, second = (made.model(input_ids=ids).logits for ids in (TEXT_IDS, changed))
        near(first[:, :-1], second[:, :-1], made.tolerance)
        assert not torch.equal(first[:, -1], second[:, -1])

    def test_causality_in_front_of_an_image(self, made):
        ids = torch.cat([TEXT_IDS, slot(made.model)], dim=1)
        first, second = (
            made.model(input_ids=ids, pixel_values=pixels(made.model, seed=seed)).logits for seed in (1, 2)
        )
        near(first[:, :-1], second[:, :-1], made.tolerance)
        assert not torch.equal(first[:, -1], second[:, -1])

    @pytest.mark.parametrize("with_image", [False, True])
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_padding(self, made, side, with_image):
        model = made.model
        images = {"pixel_values": pixels(model)} if with_image else {}
        ids = torch.cat([slot(model), TEXT_IDS], dim=1) if with_image else TEXT_IDS
        padding, length = torch.full((1, 5), 3), ids.shape[1]
        parts, at = ([padding, ids], slice(5, None)) if side == "left" else ([ids, padding], slice(length))
        mask = torch.cat([torch.full_like(part, int(part is ids)) for part in parts], dim=1)
        padded = model(input_ids=torch.cat(parts, dim=1), attention_mask=mask, **images).logits[:, at]
        near(padded, model(input_ids=ids, **images).logits, made.tolerance)

    @pytest.mark.parametrize("num_padding", [0, 3])
    @pytest.mark.parametrize("step", [1, 4])
    def test_cache(self, made, step, num_padding):
        padding = torch.full((1, num_padding), 3)
        ids = torch.cat([padding, TEXT_IDS], dim=1)
        mask = torch.cat([torch.zeros_like(padding), torch.ones_like(TEXT_IDS)], dim=1)
        start = num_padding + 4
        outputs = made.model(input_ids=ids[:, :start], attention_mask=mask[:, :start], use_cache=True)
        logits = [outputs.logits[:, num_padding:]]
        for end in range(start + step, ids.shape[1] + 1, step):
            outputs = made.model(
                input_ids=ids[:, end - step : end],
                attention_mask=mask[:, :end] if num_padding else None,
                cache=outputs.cache,
                use_cache=True,
            )
            logits.append(outputs.logits)
        near(torch.cat(logits, dim=1), made.model(input_ids=TEXT_IDS).logits, made.tolerance)

    def test_cache_behind_an_image(self, made):
        ids, images = torch.cat([slot(made.model), TEXT_IDS], dim=1), pixels(made.model)
        whole = made.model(input_ids=ids, pixel_values=images).logits
        outputs = made.model(input_ids=ids[:, :4], pixel_values=images, use_cache=True)
        last = made.model(input_ids=ids[:, 4:], cache=outputs.cache).logits
        near(torch.cat([outputs.logits, last], dim=1), whole, made.tolerance)

    def test_head_is_the_language_models_own(self, made):
        if made.text_logits is None:
            pytest.skip("was not made of a language model that could be asked")
        near(made.model(input_ids=TEXT_IDS).logits[..., :TEXT_VOCAB], made.text_logits, made.tolerance)

    def test_embeddings_and_head(self, made):
        config = made.model.config
        head, embeddings = made.model.get_output_embeddings().weight, made.model.get_input_embeddings().weight
        assert head.shape[0] == embeddings.shape[0] == config.text_config.vocab_size
        assert config.first_code_token_id + config.visual_tokenizer_config.codebook_size == head.shape[0]
        assert (head is embeddings) == config.tie_word_embeddings

    def test_save_and_load(self, made, tmp_path):
        if not isinstance(made.model, PreTrainedModel):
            pytest.skip("PEFT saves its adapters alone, and loads them onto a model that is there")
        made.model.save_pretrained(tmp_path)
        again = LaVITForCausalLM.from_pretrained(tmp_path)
        # `to(dtype)` rounds the frequencies of rotary positions, which a loaded model computes anew.
        tolerance = made.tolerance if made.model.dtype == torch.bfloat16 else 1e-6
        near(again(input_ids=TEXT_IDS).logits, made.model(input_ids=TEXT_IDS).logits, tolerance)
        ids, images = torch.cat([slot(again), TEXT_IDS], dim=1), pixels(made.model)
        logits = (model(input_ids=ids, pixel_values=images).logits for model in (again, made.model))
        near(*logits, tolerance)
        assert (again.lm_head.weight is again.get_input_embeddings().weight) == again.config.tie_word_embeddings

    def test_every_part_has_an_attention_implementation(self, made):
        model = made.model
        configs = [model.config, model.visual_tokenizer.config, model.language_model.config]
        configs.append(model.visual_tokenizer.encoder.model.config)
        assert {config._attn_implementation for config in configs} <= {"sdpa", "eager"}


@pytest.mark.parametrize("made_by", [LaVITForCausalLM, LaVITForPreTraining])
def test_callers_language_model_keeps_its_numbers(made_by):
    """Also those that are not in its dtype, as the frequencies of rotary positions."""
    text = text_model("llama", dtype=torch.bfloat16)
    expected, frequencies = logits_of(text), text.model.rotary_emb.inv_freq.clone()
    if made_by is LaVITForPreTraining:
        tokenizer = LaVITVisualTokenizer(tiny_visual_config(selection="threshold"))
        model = LaVITForPreTraining.from_visual_tokenizer(tokenizer, text)
    else:
        model = LaVITForCausalLM.from_backbones(vision_model(), text, **VISUAL_SETTINGS)
    assert torch.equal(model.language_model.rotary_emb.inv_freq, frequencies)
    assert torch.equal(logits_of(model.eval())[..., :TEXT_VOCAB], expected)
    assert {parameter.dtype for parameter in model.understanding.parameters()} == {torch.bfloat16}
    assert model.visual_tokenizer.merger.norm.weight.dtype == torch.bfloat16
    assert model.visual_tokenizer.selector.norm.weight.dtype == torch.float32


class TestAttentionImplementation:
    @pytest.mark.parametrize("vision_implementation", ["eager", "sdpa"])
    @pytest.mark.parametrize("text_implementation", ["eager", "sdpa"])
    def test_callers_models_keep_theirs(self, text_implementation, vision_implementation, tmp_path):
        vision = AutoModel.from_config(vision_model().config, attn_implementation=vision_implementation)
        text = text_model("llama", attn_implementation=text_implementation)
        model = LaVITForCausalLM.from_backbones(vision, text, **VISUAL_SETTINGS)
        assert model.language_model.config._attn_implementation == text_implementation
        assert model.language_model.layers[0].self_attn.config._attn_implementation == text_implementation
        assert model.visual_tokenizer.encoder.model.config._attn_implementation == vision_implementation

    def test_one_that_a_part_lacks(self, tmp_path):
        """Gemma 2 has no sdpa: its own choice is left alone, and to ask for it is refused."""
        model = of_backbones("gemma2").model
        assert model.language_model.config._attn_implementation == "eager"
        model.save_pretrained(tmp_path)
        assert LaVITForCausalLM.from_pretrained(tmp_path).language_model.config._attn_implementation == "eager"
        with pytest.raises(ValueError, match=r"Gemma2.* does not support an attention implementation"):
            LaVITForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa")


def llama_without_a_mask() -> PreTrainedModel:
    """A language model that looks ahead, by so little that it is next to nothing in its logits."""
    text = text_model("llama")

    def look_ahead(module, args, output):
        hidden_states = output.last_hidden_state
        output.last_hidden_state = hidden_states + 1e-4 * hidden_states.mean(dim=1, keepdim=True)

    text.model.register_forward_hook(look_ahead)
    return text


def falsely_tied(tied: bool) -> PreTrainedModel:
    text = text_model("llama")
    text.config.tie_word_embeddings = tied
    if not tied:
        text.lm_head.weight = text.model.embed_tokens.weight
    return text


def with_a_head_of_its_own() -> PreTrainedModel:
    text = text_model("llama")
    forward = text.forward

    def forward_and_double(**kwargs):
        outputs = forward(**kwargs)
        outputs.logits = 2 * outputs.logits
        return outputs

    text.forward = forward_and_double
    return text


def another_class() -> PreTrainedModel:
    class OtherLlamaForCausalLM(LlamaForCausalLM):
        pass

    return OtherLlamaForCausalLM(text_model("llama").config)


def with_lora_inside() -> torch.nn.Module:
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(text_model("llama"), peft.LoraConfig(target_modules=["q_proj"]))


def tiny(model_type: str, **kwargs) -> PreTrainedModel:
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, vocab_size=TEXT_VOCAB, **kwargs))


ENCODER_SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
DECODER_SIZES = {
    "d_model": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
    "encoder_layers": 1,
    "max_position_embeddings": 64,
}
REFUSED = {
    "no causal mask": (lambda: tiny("bert", **ENCODER_SIZES), "BertLMHeadModel: it has no causal mask"),
    "hardly a causal mask": (llama_without_a_mask, "has no causal mask"),
    "a head of several layers": (
        lambda: tiny("bert", is_decoder=True, **ENCODER_SIZES),
        "it does more than apply a linear head",
    ),
    "something behind the head": (with_a_head_of_its_own, "it does more than apply a linear head"),
    "no head": (lambda: text_model("llama").model, "no base model with an output head"),
    "embeddings of another width": (
        lambda: tiny(
            "opt", hidden_size=32, word_embed_proj_dim=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=64
        ),
        "its embeddings have width 16 and its hidden states 32",
    ),
    "a decoder that hides its embeddings": (
        lambda: tiny("bart", **DECODER_SIZES),
        "does not expose its input embeddings",
    ),
    "a state, which is no cache": (
        lambda: tiny("mamba", hidden_size=32, num_hidden_layers=1, state_size=4),
        "it keeps no cache of keys and values",
    ),
    "a state, which heeds no padding": (
        lambda: tiny("rwkv", hidden_size=32, num_hidden_layers=2, attention_hidden_size=32),
        "padding before a prompt changes its output",
    ),
    "a state beside the cache": (
        lambda: tiny(
            "jamba",
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            attn_layer_offset=1,
            attn_layer_period=2,
            num_experts=1,
            use_mamba_kernels=False,
            initializer_range=0.2,
        ),
        "that can be extended by one token or by many",
    ),
    "no cache": (lambda: tiny("openai-gpt", n_embd=32, n_layer=1, n_head=2), "it keeps no cache"),
    "tied, with two weights": (lambda: falsely_tied(True), "but the two hold different weights"),
    "tied, unsaid": (lambda: falsely_tied(False), "its head is its embeddings, but"),
    "a class that would not be loaded": (another_class, "transformers builds LlamaForCausalLM"),
    "adapters": (with_lora_inside, "merge adapters into it"),
    "more than a language model": (
        lambda: LaVITForCausalLM(plain_config()),
        "LaVITForCausalLM: it is more than a language model",
    ),
}


class TestRefused:
    @pytest.mark.parametrize("case", REFUSED)
    def test_language_model(self, case):
        build, message = REFUSED[case]
        torch.manual_seed(0)
        with pytest.raises(ValueError, match=message) as raised:
            LaVITForCausalLM.from_backbones(vision_model(), build(), **VISUAL_SETTINGS)
        assert str(raised.value).startswith("LaVIT cannot be built on ")

    def test_a_refused_model_is_as_it_was(self):
        text = tiny("bert", **ENCODER_SIZES).train()
        with pytest.raises(ValueError, match="no causal mask"):
            LaVITForCausalLM.from_backbones(vision_model(), text, **VISUAL_SETTINGS)
        assert text.get_input_embeddings().weight.shape[0] == text.config.vocab_size == TEXT_VOCAB
        assert all(module.training for module in text.modules())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_refused_encoder_leaves_the_language_model_as_it_was(self, dtype):
        text = text_model("llama", dtype=dtype)
        expected = logits_of(text)
        without_norm = vision_model()
        without_norm.norm_of_my_own = without_norm._modules.pop("layernorm")
        of_the_selector = {"selector_feature_size": 4, "understanding_selector": True}
        refused = {"no final norm": (without_norm, {}), "selector_feature_size": (vision_model(), of_the_selector)}
        for message, (vision, settings) in refused.items():
            with pytest.raises(ValueError, match=message):
                LaVITForCausalLM.from_backbones(vision, text, **VISUAL_SETTINGS | settings)
            assert text.config.vocab_size == TEXT_VOCAB
        assert torch.equal(logits_of(text), expected)
        model = LaVITForCausalLM.from_backbones(vision_model(), text, **VISUAL_SETTINGS)
        assert model.config.text_vocab_size == TEXT_VOCAB

    @pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
    def test_without_gradients(self, mode):
        with mode():
            model = LaVITForCausalLM(plain_config()).eval()
            assert model(input_ids=TEXT_IDS).logits.isfinite().all()
            with pytest.raises(ValueError, match="no causal mask"):
                LaVITForCausalLM.from_backbones(vision_model(), tiny("bert", **ENCODER_SIZES), **VISUAL_SETTINGS)

    def test_trying_a_model_changes_nothing_of_it(self):
        text = text_model("llama").train()
        text.model.layers[0].eval()
        LaVITForCausalLM(
            LaVITConfig(text_config=grown(text).config, visual_tokenizer_config=tiny_visual_config()), None, text
        )
        assert text.model.layers[1].training and not text.model.layers[0].mlp.training
        assert all(parameter.grad is None for parameter in text.parameters())

    def test_from_a_configuration(self):
        text_config = AutoConfig.for_model("bert", vocab_size=TEXT_VOCAB + 26, **ENCODER_SIZES)
        config = LaVITConfig(text_config=text_config, visual_tokenizer_config=tiny_visual_config())
        with pytest.raises(ValueError, match="BertLMHeadModel: it has no causal mask"):
            LaVITForCausalLM(config)

    @pytest.mark.parametrize("part", ["embeddings", "head"])
    def test_vocabulary_that_does_not_fit(self, part):
        text = text_model("llama")
        config = LaVITConfig(text_config=grown(text).config, visual_tokenizer_config=tiny_visual_config())
        module = text.lm_head if part == "head" else text.model.embed_tokens
        module.weight = torch.nn.Parameter(module.weight[:-1].detach())
        with pytest.raises(ValueError, match=rf"its {part} ha(ve|s) 65 rows, but its configuration has vocab_size 66"):
            LaVITForCausalLM(config, None, text)

    def test_tied_head_of_another_shape(self):
        text = text_model("llama")
        config = LaVITConfig(text_config=grown(text).config, visual_tokenizer_config=tiny_visual_config())
        text.config.tie_word_embeddings = True
        text.lm_head.weight = torch.nn.Parameter(torch.zeros(TEXT_VOCAB + 26, 16))
        with pytest.raises(ValueError, match=r"ties its head \(66, 16\) to its embeddings \(66, 32\)"):
            LaVITForCausalLM(config, None, text)

    def test_quantized(self, tmp_path):
        pytest.importorskip("bitsandbytes")
        text_model("llama").save_pretrained(tmp_path)
        text = AutoModelForCausalLM.from_pretrained(
            tmp_path, quantization_config=BitsAndBytesConfig(load_in_8bit=True)
        )
        with pytest.raises(ValueError, match="it is quantized; load it in full"):
            LaVITForCausalLM.from_backbones(vision_model(), text, **VISUAL_SETTINGS)

    def test_configuration_of_more_than_a_language_model(self):
        with pytest.raises(ValueError, match=r"Gemma3Config.* has no vocab_size"):
            LaVITConfig(text_config=AutoConfig.for_model("gemma3"))


def grown(text: PreTrainedModel) -> PreTrainedModel:
    text.resize_token_embeddings(TEXT_VOCAB + 26)
    return text


class TestEncoders:
    """An encoder without a feature for each patch, in raster order, is refused."""

    @staticmethod
    def build(model_type: str, encoder_final_norm: bool = True, **kwargs) -> LaVITVisualTokenizer:
        sizes = {"image_size": 32, "patch_size": 8}
        torch.manual_seed(0)
        encoder_config = AutoConfig.for_model(model_type, **ENCODER_SIZES | sizes | kwargs)
        config = LaVITVisualTokenizerConfig(
            encoder_config=encoder_config,
            **{"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, **sizes},
            encoder_final_norm=encoder_final_norm,
            hidden_size=32,
            feature_size=32,
        )
        return LaVITVisualTokenizer(config)

    @pytest.mark.parametrize(
        "model_type",
        [
            "vit",
            "deit",
            "dinov2",
            "dinov2_with_registers",
            "clip_vision_model",
            "siglip_vision_model",
            "ijepa",
            "vit_msn",
        ],
    )
    def test_patches_in_raster_order(self, model_type):
        assert self.build(model_type)(torch.randn(1, 3, 32, 32)).last_hidden_state.shape == (1, 16, 32)

    def test_tokens_behind_the_patches(self):
        """YOLOS puts the tokens of its detections there."""
        with pytest.raises(ValueError, match="YolosModel: changing a patch changes other features than its own"):
            self.build("yolos", image_size=[32, 32], num_detection_tokens=20)

    def test_patches_by_columns(self):
        vision = vision_model()
        grid = torch.arange(16).view(4, 4)

        def transpose(module, args, output):
            output.last_hidden_state = output.last_hidden_state[:, 1:][:, grid.T.flatten()]

        vision.register_forward_hook(transpose)
        with pytest.raises(ValueError, match="raster order"):
            LaVITForCausalLM.from_backbones(vision, text_model("llama"), **VISUAL_SETTINGS)
        assert isinstance(vision.layernorm, torch.nn.LayerNorm) and vision.layernorm.weight.requires_grad

    @pytest.mark.parametrize(
        ("model_type", "settings"),
        [
            ("convnext", {"hidden_sizes": [8, 8, 16, 32], "depths": [1, 1, 1, 1]}),
            ("vit_mae", {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}),
        ],
    )
    def test_number_of_patches(self, model_type, settings):
        with pytest.raises(ValueError, match=r"features have shape|raster order|does not run"):
            self.build(model_type, **settings)

    def test_final_norm_of_an_unknown_name(self):
        vision = vision_model()
        vision.last_norm = vision._modules.pop("layernorm")
        with pytest.raises(ValueError, match="ViTModel has no final norm named one of"):
            LaVITForCausalLM.from_backbones(vision, text_model("llama"), **VISUAL_SETTINGS)


class Waits(TorchFunctionMode):
    """Counts where the package waits for a device: values that go to the host, and shapes that follow from values."""

    NAMES = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "nonzero", "masked_select", "unique"}

    def __init__(self):
        super().__init__()
        self.places = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        by_mask = name in ("__getitem__", "__setitem__") and any(
            torch.is_tensor(index) and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if isinstance(args[1], tuple) else (args[1],))
        )
        if name in self.NAMES or by_mask:
            frame = sys._getframe(1)
            if Path(frame.f_code.co_filename).is_relative_to(Path(lavit_hf.__file__).parent):
                self.places[f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}:{name}"] += 1
        return function(*args, **(kwargs or {}))


class TestWaits:
    """A forward waits for the device once for what is ragged, and not at all where nothing is."""

    @pytest.fixture
    def images(self):
        return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))

    @staticmethod
    def count(run: Callable, *args, **kwargs) -> Counter:
        with torch.no_grad(), Waits() as waits:
            run(*args, **kwargs)
        return waits.places

    @pytest.mark.parametrize("merger_softmax", ["original", "masked"])
    @pytest.mark.parametrize("settings", [{"selection": "ratio"}, {"selection": "count", "keep_count": 5}])
    def test_as_many_patches_as_asked_for(self, tiny_tokenizer, images, settings, merger_softmax, monkeypatch):
        """They are only counted where there is no device to wait for."""
        tokenizer = tiny_tokenizer(merger_softmax=merger_softmax, **settings)
        assert self.count(tokenizer, images).total() == 1
        monkeypatch.setattr(lavit_hf.lavit.modeling_visual_tokenizer, "_is_at_hand", lambda tensor: False)
        assert self.count(tokenizer, images).total() == 0

    @pytest.mark.parametrize("merger_softmax", ["original", "masked"])
    def test_visual_tokenizer(self, tiny_tokenizer, images, merger_softmax):
        tokenizer = tiny_tokenizer(merger_softmax=merger_softmax, selection="sample")
        assert self.count(tokenizer, images).total() == 1
        keep_mask = torch.arange(16).repeat(3, 1) < torch.tensor([[3], [16], [7]])
        assert self.count(tokenizer, images, keep_mask=keep_mask).total() == 1
        assert self.count(tokenizer.encode, images).total() == 0

    def test_training_of_the_selector(self, tiny_tokenizer, images):
        tokenizer = tiny_tokenizer().train()
        with Waits() as waits:
            tokenizer(images)
        assert waits.places.total() == 1

    def test_prompt_with_an_image(self, images):
        """One wait for the rows that are kept (on a CPU, even for a known number), and one for the slots they fill."""
        model = LaVITForCausalLM(plain_config()).eval()
        ids = torch.cat([slot(model), TEXT_IDS], dim=1)
        assert self.count(model, input_ids=ids, pixel_values=images[:1]).total() == 2
        model.visual_tokenizer.config.selection = "ratio"
        assert self.count(model, input_ids=ids, pixel_values=images[:1]).total() == 2
        assert self.count(model, input_ids=TEXT_IDS).total() <= 1  # whether the prompt waits for an image
        assert self.count(model, input_ids=TEXT_IDS[:, :1]).total() == 0

    def test_counts_are_right(self, images):
        """The count sees what it is to see."""
        assert self.count(lambda: images[images > 0]) == Counter()  # not in the package
        assert self.count(lavit_hf.lavit.modeling_layers.split_by_image, images[0, 0], torch.ones(2, 16)).total() == 1


class TestGraphs:
    """`torch.export` and full-graph `torch.compile` of what is computed for an image."""

    KEEP_MASK = torch.arange(16).repeat(2, 1) % torch.tensor([[2], [3]]) == 0

    @pytest.fixture
    def images(self):
        return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))

    @staticmethod
    def graph_of(how: str, module: torch.nn.Module, args: tuple) -> Callable:
        if how == "export":
            return torch.export.export(module, args).module()
        torch._dynamo.reset()
        return torch.compile(module, fullgraph=True, backend="aot_eager")

    @pytest.mark.slow
    @torch.no_grad()
    @pytest.mark.parametrize("how", ["export", "compile"])
    @pytest.mark.parametrize("merger_softmax", ["original", "masked"])
    def test_visual_tokenizer(self, tiny_tokenizer, images, how, merger_softmax):
        tokenizer = tiny_tokenizer(merger_softmax=merger_softmax, selection="ratio")
        expected = tokenizer(images)
        outputs = self.graph_of(how, tokenizer, (images,))(images)
        assert all(map(torch.equal, outputs.codes, expected.codes))
        torch.testing.assert_close(outputs.merged, expected.merged, rtol=0, atol=1e-5)

    @pytest.mark.slow
    @torch.no_grad()
    @pytest.mark.parametrize(("how", "merger_softmax"), [("export", "original"), ("compile", "masked")])
    @torch._dynamo.config.patch(capture_scalar_outputs=True)
    def test_visual_tokenizer_with_a_mask(self, tiny_tokenizer, images, how, merger_softmax):
        """One graph for masks that keep other numbers of patches."""
        tokenizer = tiny_tokenizer(merger_softmax=merger_softmax)
        graph = self.graph_of(how, tokenizer, (images, self.KEEP_MASK))
        for keep_mask in (self.KEEP_MASK, self.KEEP_MASK.roll(1, dims=0), torch.ones_like(self.KEEP_MASK)):
            outputs, expected = graph(images, keep_mask), tokenizer(images, keep_mask)
            assert all(map(torch.equal, outputs.codes, expected.codes))
            torch.testing.assert_close(outputs.merged, expected.merged, rtol=0, atol=1e-5)

    @pytest.mark.slow
    @torch.no_grad()
    def test_rows_that_the_language_model_reads(self, images):
        config = plain_config()
        config.visual_tokenizer_config.selection = "ratio"
        model = LaVITForCausalLM(config).eval().model

        class Reader(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model

            def forward(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
                return self.model.get_image_features(pixel_values).pooler_output

        expected = Reader()(images)
        rows = torch.compile(Reader(), fullgraph=True, backend="aot_eager")(images)
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)

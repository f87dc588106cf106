# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The dial from tokens to quality: how many patches a call keeps, by threshold, share or error."""

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import tiny_visual_config
from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITPipeline, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.lavit.configuration_lavit import LaVITDetokenizerConfig
from lavit_hf.lavit.fewest_patches import find_fewest
from lavit_hf.lavit.keep_settings import KEEP_SETTINGS, check_keep_settings
from lavit_hf.pixels.modeling_detokenizer import LaVITDetokenizer
from tiny_pixels import tiny_detokenizer, tiny_language_model


def fitting_detokenizer() -> LaVITDetokenizer:
    torch.manual_seed(1)
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "cross_attention_dims": (8,)}
    config = LaVITDetokenizerConfig(
        hidden_size=32, feature_size=32, codebook_dim=8, num_patches=16, initializer_range=0.2, **sizes
    )
    return LaVITDetokenizer(config).eval()


LOG_ODDS = torch.randn(64, generator=torch.Generator().manual_seed(0))
RULES = [{"keep_threshold": 0.6}, {"keep_ratio": 0.3}, {"keep_error": 0.9}]


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokenizer(tiny_tokenizer) -> LaVITVisualTokenizer:
    tokenizer = tiny_tokenizer(merger_softmax="masked")
    tokenizer.attach_detokenizer(fitting_detokenizer())
    return tokenizer


@pytest.fixture(scope="module")
def repo(repos) -> str:
    return str(repos["lowres"])


@pytest.fixture(scope="module")
def model(repo) -> LaVITForCausalLM:
    return LaVITForCausalLM.from_pretrained(repo)


@pytest.fixture(scope="module")
def inputs(repo, golden) -> dict[str, torch.Tensor]:
    images = [[Image.open(path).convert("RGB")] for path in golden.image_paths[:2]]
    return LaVITProcessor.from_pretrained(repo)(images=images, return_tensors="pt")


def errors_by_count(errors: dict[int, float], tried: list[int]):
    """What leaves an error by the number of patches; notes which numbers are asked for."""

    def errors_of(masks: torch.Tensor) -> torch.Tensor:
        order = LOG_ODDS.argsort(descending=True)
        for mask in masks:
            count = int(mask.sum())
            assert set(mask.nonzero().flatten().tolist()) == set(order[:count].tolist())
            tried.append(count)
        return torch.tensor([errors[int(mask.sum())] for mask in masks])

    return errors_of


class TestSearch:
    @pytest.mark.parametrize("enough", range(1, 65))
    def test_finds_the_fewest_of_64_where_more_is_better(self, enough):
        tried = []
        errors = {count: 0.2 if count >= enough else 0.6 for count in range(1, 65)}
        mask, error = find_fewest(LOG_ODDS, errors_by_count(errors, tried), 0.2)
        assert int(mask.sum()) == enough
        assert float(error) == pytest.approx(0.2)
        assert len(tried) <= 15

    def test_smallest_number_tried_where_the_error_goes_up_and_down(self):
        errors = dict.fromkeys(range(1, 65), 0.5) | {24: 0.1, 20: 0.15, 18: 0.1, 3: 0.1, 64: 0.3}
        tried = []
        mask, error = find_fewest(LOG_ODDS, errors_by_count(errors, tried), 0.2)
        assert 3 not in tried  # nothing near it led there
        assert int(mask.sum()) == min(count for count in tried if errors[count] <= 0.2) == 18
        assert float(error) == pytest.approx(0.1)

    def test_all_where_no_number_is_enough(self):
        errors = {count: 0.5 - count / 1000 for count in range(1, 65)}
        tried = []
        mask, error = find_fewest(LOG_ODDS, errors_by_count(errors, tried), 0.2)
        assert mask.all()
        assert float(error) == pytest.approx(0.436)
        assert len(tried) == 8  # one pass

    @pytest.mark.parametrize("num_patches", [1, 2, 5, 16, 100, 256])
    def test_any_number_of_patches(self, num_patches):
        def errors_of(masks: torch.Tensor) -> torch.Tensor:
            return (masks.sum(dim=1) < num_patches * 0.4).float()

        mask, error = find_fewest(torch.randn(num_patches), errors_of, 0.5)
        step = max(1, num_patches // 64)
        assert 0 <= int(mask.sum()) - num_patches * 0.4 <= step
        assert float(error) == 0


class TestTokenizer:
    @pytest.mark.parametrize("name", ["keep_threshold", "keep_ratio"])
    @pytest.mark.parametrize("value", [0.2, 0.5, 0.77])
    def test_call_is_the_setting(self, tokenizer, tiny_tokenizer, pixel_values, name, value):
        selection = name.removeprefix("keep_")
        expected = tiny_tokenizer(merger_softmax="masked", selection=selection, **{name: value})(pixel_values)
        outputs = tokenizer(pixel_values, **{name: value})
        assert torch.equal(outputs.keep_mask, expected.keep_mask)
        assert all(map(torch.equal, outputs.merged, expected.merged))
        assert outputs.rebuild_errors is None
        assert tokenizer.config.selection == "sample"

    @pytest.mark.parametrize(("ratio", "count"), [(0.001, 1), (0.3, 5), (0.5, 8), (1, 16)])
    def test_ratio_keeps_an_exact_number(self, tokenizer, pixel_values, ratio, count):
        outputs = tokenizer(pixel_values, keep_ratio=ratio)
        assert outputs.keep_mask.sum(dim=1).tolist() == [count] * 3
        keep = outputs.keep_log_probs[..., 0] - outputs.keep_log_probs[..., 1]
        assert torch.equal(outputs.keep_mask, keep >= keep.sort(descending=True).values[:, count - 1 : count])

    @torch.no_grad()
    def test_error_keeps_the_fewest_that_reach_it(self, tokenizer, pixel_values):
        """Against all numbers of patches, one by one."""
        features = tokenizer.encode(pixel_values).last_hidden_state
        ranked = [tokenizer.tokenize(features, keep_ratio=count / 16).keep_mask for count in range(1, 17)]
        errors = torch.stack([tokenizer.rebuild_errors(features, mask) for mask in ranked])  # (16, 3)
        coarse = list(range(1, 16, 2))  # two by two patches
        wanted = float(errors[coarse].median())
        outputs = tokenizer.tokenize(features, keep_error=wanted)
        for number in range(3):
            enough = [place for place in coarse if errors[place, number] <= wanted + 1e-6]
            assert bool(outputs.reaches_keep_error[number]) == bool(enough)
            place = enough[0] if enough else 15
            if enough and errors[place - 1, number] <= wanted:
                place -= 1
            assert torch.equal(outputs.keep_mask[number], ranked[place][number])
            assert outputs.rebuild_errors[number].item() == pytest.approx(errors[place, number].item(), abs=1e-5)
            assert len(outputs.codes[number]) == place + 1

    @torch.no_grad()
    def test_errors_are_one_minus_the_cosine(self, tokenizer, pixel_values):
        outputs = tokenizer(pixel_values, keep_ratio=0.5)
        detokenizer = fitting_detokenizer()
        rebuilt = detokenizer(code_rows=outputs.quantized).features
        expected = 1 - torch.cosine_similarity(rebuilt, outputs.last_hidden_state, dim=-1).mean(dim=1)
        errors = tokenizer.rebuild_errors(outputs.last_hidden_state, outputs.keep_mask)
        torch.testing.assert_close(errors, expected)

    @torch.no_grad()
    def test_image_that_never_reaches_it_keeps_all(self, tokenizer, pixel_values):
        outputs = tokenizer(pixel_values, keep_error=1e-6)
        assert outputs.keep_mask.all()
        assert outputs.reaches_keep_error.tolist() == [False] * 3
        everything = torch.ones_like(outputs.keep_mask)
        errors = tokenizer.rebuild_errors(outputs.last_hidden_state, everything)
        torch.testing.assert_close(outputs.rebuild_errors, errors)

    @pytest.mark.parametrize("rule", RULES)
    @torch.no_grad()
    def test_image_keeps_the_same_in_any_company(self, tokenizer, pixel_values, rule):
        together = tokenizer(pixel_values, **rule)
        alone = [tokenizer(image[None], **rule) for image in pixel_values]
        assert torch.equal(together.keep_mask, torch.cat([outputs.keep_mask for outputs in alone]))
        assert all(torch.equal(codes, outputs.codes[0]) for codes, outputs in zip(together.codes, alone))

    def test_weights_are_its_own(self, tokenizer, tiny_tokenizer):
        assert tokenizer.state_dict().keys() == tiny_tokenizer(merger_softmax="masked").state_dict().keys()

    def test_gradients_reach_the_selector(self, tokenizer, pixel_values):
        tokenizer.train()(pixel_values, keep_ratio=0.5).merged[0].sum().backward()
        assert tokenizer.selector.classifier[-1].weight.grad.abs().sum() > 0


class TestModel:
    @pytest.mark.parametrize("mode", ["text", "image"])
    @pytest.mark.parametrize("rule", [{"keep_threshold": 0.45}, {"keep_ratio": 0.3}, {"keep_error": 0.95}])
    def test_generate_reads_what_is_kept(self, model, inputs, mode, rule):
        """The same text or image as of the model whose own rule keeps these patches."""
        settings = {"generation_mode": mode, "max_new_tokens": 4, "min_new_tokens": 1, "do_sample": False}
        outputs = model.generate(**inputs, **rule, **settings, num_beams=1, return_dict_in_generate=True)
        tokenized = model.visual_tokenizer(inputs["pixel_values"], **rule)
        assert torch.equal(outputs.keep_mask, tokenized.keep_mask)
        assert ("rebuild_errors" in outputs) == ("keep_error" in rule)
        if "keep_error" in rule:
            torch.testing.assert_close(outputs.rebuild_errors, tokenized.rebuild_errors)
            assert torch.equal(outputs.reaches_keep_error, tokenized.reaches_keep_error)
        codes = [image[1:-1] for image in model.get_image_tokens(inputs["pixel_values"], tokenized.keep_mask)]
        kept = model.get_image_features(inputs["pixel_values"], tokenized.keep_mask).pooler_output
        rows = kept if mode == "text" else [model.get_input_embeddings()(image) for image in codes]
        filled = model.model.fill_slots(
            rows, inputs["input_ids"], attention_mask=inputs["attention_mask"], keep_marks=mode == "text"
        )
        if mode == "image":
            start = model.get_input_embeddings()(torch.tensor([[model.config.image_start_token_id]] * 2))
            filled.inputs_embeds = torch.cat([filled.inputs_embeds, start.to(filled.inputs_embeds)], dim=1)
            ones = torch.ones(2, 1, dtype=filled.attention_mask.dtype)
            filled.attention_mask = torch.cat([filled.attention_mask, ones], dim=1)
        expected = model.generate(
            inputs_embeds=filled.inputs_embeds, attention_mask=filled.attention_mask, **settings, num_beams=1
        )
        assert torch.equal(outputs.sequences[:, -expected.shape[1] :], expected)

    @torch.no_grad()
    def test_forward(self, model, inputs):
        outputs = model(**inputs, keep_ratio=0.25)
        assert outputs.image_outputs.keep_mask.sum(dim=1).tolist() == [16, 16]
        rows = model.get_image_features(inputs["pixel_values"], keep_ratio=0.25).pooler_output
        assert all(map(torch.equal, outputs.image_outputs.pooler_output, rows))

    @torch.no_grad()
    def test_own_selector_for_understanding_orders_the_patches(self, pixel_values):
        torch.manual_seed(0)
        text_config = tiny_language_model().config.text_config
        config = LaVITConfig(
            text_config=text_config, visual_tokenizer_config=tiny_visual_config(), understanding_selector=True
        )
        model = LaVITForCausalLM(config).eval()
        model.visual_tokenizer.attach_detokenizer(fitting_detokenizer())
        outputs = model.get_image_features(pixel_values, keep_ratio=0.3)
        hidden_states = model.visual_tokenizer.embedding(outputs.last_hidden_state)
        log_probs = model.understanding.selector.log_probs(hidden_states)
        best = (log_probs[..., 0] - log_probs[..., 1]).topk(5).indices
        assert outputs.keep_mask.gather(1, best).all()
        assert outputs.keep_mask.sum(dim=1).tolist() == [5] * 3
        by_error = model.get_image_features(pixel_values, keep_error=0.999)
        errors = model.visual_tokenizer.rebuild_errors(outputs.last_hidden_state, by_error.keep_mask)
        torch.testing.assert_close(errors, by_error.rebuild_errors)

    def test_pipeline(self, repo, golden):
        pipeline = LaVITPipeline.from_pretrained(repo)
        images = [str(path) for path in golden.image_paths[:2]]
        tokens = pipeline.tokenize_images(images, keep_ratio=0.1)
        assert [len(ids) for ids in tokens] == [6 + 2] * 2
        output = pipeline.reconstruct(images, keep_ratio=0.1, num_inference_steps=1, output_type="latent")
        assert all(map(torch.equal, output.image_token_ids, tokens))


class TestDetokenizer:
    @torch.no_grad()
    @pytest.mark.parametrize("model_class", [LaVITVisualTokenizer, LaVITForCausalLM])
    def test_is_the_repos_own(self, repo, inputs, model_class):
        loaded = model_class.from_pretrained(repo)
        tokenizer = getattr(loaded, "visual_tokenizer", loaded)
        assert not tokenizer.has_detokenizer
        found = loaded.get_image_features(inputs["pixel_values"], keep_error=0.9) if tokenizer is not loaded else None
        outputs = tokenizer(inputs["pixel_values"], keep_error=0.9)
        detokenizer = LaVITDetokenizer.from_pretrained(repo, subfolder="detokenizer", dtype=torch.float32)
        rebuilt = detokenizer(code_rows=outputs.quantized).features
        expected = 1 - torch.cosine_similarity(rebuilt, outputs.last_hidden_state, dim=-1).mean(dim=1)
        torch.testing.assert_close(outputs.rebuild_errors, expected)
        assert found is None or torch.equal(found.rebuild_errors, outputs.rebuild_errors)

    def test_none(self, tiny_tokenizer, converted, pixel_values, inputs):
        with pytest.raises(ValueError, match=r"not loaded from a repo.*attach_detokenizer"):
            tiny_tokenizer()(pixel_values, keep_error=0.5)
        with pytest.raises(ValueError, match=r"has none.*attach_detokenizer"):
            LaVITVisualTokenizer.from_pretrained(converted)(inputs["pixel_values"], keep_error=0.5)

    def test_of_another_release(self, tokenizer, pixel_values):
        tokenizer.attach_detokenizer(tiny_detokenizer(highres=False))
        with pytest.raises(ValueError, match="feature_size is 16, but the visual tokenizer's is 32"):
            tokenizer(pixel_values, keep_error=0.5)


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"keep_ratio": 0.5, "keep_error": 0.5}, "keep_ratio and keep_error each decide"),
            (dict.fromkeys(KEEP_SETTINGS, 0.5), "Pass only one"),
            ({"keep_ratio": 0}, r"keep_ratio must lie in \(0, 1\]"),
            ({"keep_ratio": 1.01}, "keep_ratio must lie"),
            ({"keep_threshold": 1}, r"keep_threshold must lie in \(0, 1\)"),
            ({"keep_error": 1.0}, "keep_error must lie"),
            ({"keep_error": float("nan")}, "keep_error must lie"),
            ({"keep_error": "half"}, "keep_error must be a number"),
            ({"keep_ratio": True}, "keep_ratio must be a number"),
        ],
    )
    def test_settings(self, tokenizer, model, inputs, pixel_values, settings, message):
        for call in (
            lambda: check_keep_settings(**settings),
            lambda: tokenizer(pixel_values, **settings),
            lambda: tokenizer.tokenize(torch.zeros(1, 16, 32), **settings),
            lambda: model.get_image_tokens(inputs["pixel_values"], **settings),
            lambda: model.get_image_features(inputs["pixel_values"], **settings),
            lambda: model.generate(**inputs, **settings),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    def test_numbers_of_numpy(self, tokenizer, pixel_values):
        expected = tokenizer(pixel_values, keep_ratio=0.5).keep_mask
        assert torch.equal(tokenizer(pixel_values, keep_ratio=np.float32(0.5)).keep_mask, expected)

    def test_mask_and_setting(self, tokenizer, pixel_values):
        mask = torch.ones(3, 16, dtype=torch.bool)
        with pytest.raises(ValueError, match="keep_mask and keep_ratio each decide"):
            tokenizer(pixel_values, mask, keep_ratio=0.5)

    def test_pixels_that_are_not_finite(self, tokenizer, pixel_values):
        pixel_values[1] = torch.nan
        with pytest.raises(ValueError, match=r"no patch of image 1.*NaN"):
            tokenizer(pixel_values, keep_error=0.9)

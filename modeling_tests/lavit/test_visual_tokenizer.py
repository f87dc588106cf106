# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The visual tokenizer: equal to the released one on golden data, and well behaved on its own."""

import copy
import json
import math

import pytest
import torch
from transformers import ResNetConfig

from conftest import tiny_visual_config
from lavit_hf import LaVITImageProcessorPil, LaVITVisualTokenizer, LaVITVisualTokenizerConfig


PARITY = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def golden_tokenizer(request, converted):
    return LaVITVisualTokenizer.from_pretrained(converted, dtype=torch.float32, attn_implementation=request.param)


@pytest.fixture
def pixel_values():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


class TestParity:
    """Against what the released implementation gives for the golden checkpoint."""

    @torch.no_grad()
    def test_discrete_path(self, golden, golden_tokenizer):
        torch.manual_seed(golden.facts["mask_seed"])
        outputs = golden_tokenizer(golden.tensors["pixel_values"])
        expected = {name[10:]: value for name, value in golden.tensors.items() if name.startswith("tokenizer.")}
        merged = torch.cat(outputs.merged)
        torch.testing.assert_close(outputs.last_hidden_state, expected["encoder_features"][:, 1:], **PARITY)
        torch.testing.assert_close(outputs.keep_log_probs, expected["selector_log_probs"], **PARITY)
        assert torch.equal(outputs.keep_mask, expected["keep_mask"])
        torch.testing.assert_close(merged, expected["merged_kept"], **PARITY)
        # The golden tensor was taken before normalization.
        quantizer_input = torch.nn.functional.normalize(expected["quantizer_input"], dim=-1)
        torch.testing.assert_close(golden_tokenizer.quantizer.project(merged), quantizer_input, **PARITY)
        assert torch.equal(torch.cat(outputs.quantized), expected["quantized"])
        assert [len(codes) for codes in outputs.codes] == expected["token_nums"].tolist()
        first_code = golden.facts["image_token_ids"][0][0] + 2
        ids = [(codes + first_code).tolist() for codes in outputs.codes]
        assert ids == [image[1:-1] for image in golden.facts["image_token_ids"]]

    @pytest.mark.parametrize("backend", ["pil", "torchvision"])
    @torch.no_grad()
    def test_codes_from_image_files(self, golden, golden_tokenizer, backend):
        if backend == "torchvision":
            pytest.importorskip("torchvision")
        from lavit_hf import LaVITImageProcessor

        image_processor = {"pil": LaVITImageProcessorPil, "torchvision": LaVITImageProcessor}[backend](size=112)
        inputs = image_processor([str(path) for path in golden.image_paths], return_tensors="pt")
        keep_mask = golden.tensors["tokenizer.keep_mask"]
        codes = golden_tokenizer(**inputs, keep_mask=keep_mask).codes
        expected = golden_tokenizer(golden.tensors["pixel_values"], keep_mask=keep_mask).codes
        assert all(map(torch.equal, codes, expected))

    @pytest.mark.parametrize("kind", ["plain", "sharp"])
    @torch.no_grad()
    def test_merger_on_five_masks(self, golden, golden_tokenizer, kind):
        tokenizer = copy.deepcopy(golden_tokenizer)
        if kind == "sharp":
            factor = golden.facts["merger_sharp_factor"]
            for layer in tokenizer.merger.layers:
                for projection in (
                    layer.self_attn.query_projection,
                    layer.self_attn.key_projection,
                    layer.cross_attn.query_projection,
                ):
                    projection.weight.mul_(factor)
        merged = tokenizer.merger(golden.tensors["merger.features_in"], golden.tensors["merger.masks"])
        torch.testing.assert_close(merged, golden.tensors[f"merger_{kind}.merged_kept"], **PARITY)
        _, codes = tokenizer.quantizer(merged)
        assert torch.equal(codes, golden.tensors[f"merger_{kind}.codes"])

    @torch.no_grad()
    def test_the_softmax_matters(self, golden, converted):
        """An ordinary softmax must not pass for the original one, else the tests above would show nothing."""
        tokenizer = LaVITVisualTokenizer.from_pretrained(converted, dtype=torch.float32, merger_softmax="masked")
        for layer in tokenizer.merger.layers:
            for projection in (
                layer.self_attn.query_projection,
                layer.self_attn.key_projection,
                layer.cross_attn.query_projection,
            ):
                projection.weight.mul_(golden.facts["merger_sharp_factor"])
        merged = tokenizer.merger(golden.tensors["merger.features_in"], golden.tensors["merger.masks"])
        assert (merged - golden.tensors["merger_sharp.merged_kept"]).abs().max() > 1


class TestSelection:
    def test_sample_follows_the_generator_and_the_global_seed(self, tiny_tokenizer, pixel_values):
        tokenizer = tiny_tokenizer(selection="sample")
        torch.manual_seed(3)
        from_global = tokenizer(pixel_values).keep_mask
        from_generator = tokenizer(pixel_values, generator=torch.Generator().manual_seed(3)).keep_mask
        other = tokenizer(pixel_values, generator=torch.Generator().manual_seed(4)).keep_mask
        assert torch.equal(from_global, from_generator)
        assert not torch.equal(from_global, other)

    def test_threshold_is_deterministic(self, tiny_tokenizer, pixel_values):
        outputs = tiny_tokenizer(selection="threshold")(pixel_values)
        again = tiny_tokenizer(selection="threshold")(pixel_values)
        assert torch.equal(outputs.keep_mask, again.keep_mask)
        assert torch.equal(outputs.keep_mask, outputs.keep_log_probs[..., 0].exp() > 0.5)

    @pytest.mark.parametrize(
        ("settings", "count"),
        [
            ({"selection": "ratio", "keep_ratio": 0.25}, 4),
            ({"selection": "ratio", "keep_ratio": 0.01}, 1),
            ({"selection": "count", "keep_count": 7}, 7),
        ],
    )
    def test_fixed_budget_keeps_the_likeliest(self, tiny_tokenizer, pixel_values, settings, count):
        outputs = tiny_tokenizer(**settings)(pixel_values)
        assert outputs.keep_mask.sum(dim=1).tolist() == [count] * 3
        keep = outputs.keep_log_probs[..., 0]
        worst_kept = keep.masked_fill(~outputs.keep_mask, math.inf).amin(dim=1)
        best_dropped = keep.masked_fill(outputs.keep_mask, -math.inf).amax(dim=1)
        assert (worst_kept >= best_dropped).all()

    @pytest.mark.parametrize("selection", ["sample", "threshold"])
    def test_never_keeps_nothing(self, tiny_tokenizer, pixel_values, selection):
        tokenizer = tiny_tokenizer(selection=selection)
        with torch.no_grad():
            tokenizer.selector.classifier[-1].bias.copy_(torch.tensor([-50.0, 50.0]))
        outputs = tokenizer(pixel_values)
        assert outputs.keep_mask.sum(dim=1).tolist() == [1, 1, 1]
        if selection == "threshold":
            likeliest = (outputs.keep_log_probs[..., 0] - outputs.keep_log_probs[..., 1]).argmax(dim=1)
            assert torch.equal(outputs.keep_mask.int().argmax(dim=1), likeliest)

    def test_setting_can_be_changed_on_a_loaded_model(self, tiny_tokenizer, pixel_values):
        tokenizer = tiny_tokenizer(selection="sample")
        tokenizer.config.selection = "ratio"
        assert tokenizer(pixel_values).keep_mask.sum(dim=1).tolist() == [5, 5, 5]

    def test_selector_reads_the_first_channels_alone(self, tiny_tokenizer):
        tokenizer = tiny_tokenizer(selection="ratio", selector_feature_size=20)
        features = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(0))
        others = torch.cat([features[..., :20], torch.randn(3, 16, 12)], dim=-1)
        outputs, changed = tokenizer.tokenize(features), tokenizer.tokenize(others)
        assert torch.equal(outputs.keep_log_probs, changed.keep_log_probs)
        assert (outputs.merged[0] - changed.merged[0]).abs().max() > 0.1
        torch.testing.assert_close(outputs.keep_log_probs, tokenizer.selector.log_probs(features[..., :20]))


class TestMerger:
    @pytest.mark.parametrize("attn_implementation", ["eager", "sdpa"])
    @torch.no_grad()
    def test_masked_softmax_equals_attention_written_out(self, tiny_tokenizer, pixel_values, attn_implementation):
        """The kept rows, computed alone, against dense attention over all patches with -inf on the masked ones."""
        tokenizer = tiny_tokenizer(merger_softmax="masked", attn_implementation=attn_implementation)
        features = tokenizer.embedding(tokenizer.encode(pixel_values).last_hidden_state)
        keep_mask = torch.rand(3, 16, generator=torch.Generator().manual_seed(0)) < 0.4
        merged = tokenizer.merger(features, keep_mask)
        torch.testing.assert_close(merged, _merge_densely(tokenizer.merger, features, keep_mask), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("merger_softmax", ["original", "masked"])
    @torch.no_grad()
    def test_batch_equals_one_by_one(self, tiny_tokenizer, pixel_values, merger_softmax):
        tokenizer = tiny_tokenizer(merger_softmax=merger_softmax)
        keep_mask = torch.zeros(3, 16, dtype=torch.bool)
        keep_mask[0, :2], keep_mask[1], keep_mask[2, 5] = True, True, True  # two kept, nothing dropped, one kept
        batch = tokenizer(pixel_values, keep_mask=keep_mask)
        for i in range(3):
            alone = tokenizer(pixel_values[i : i + 1], keep_mask=keep_mask[i : i + 1])
            torch.testing.assert_close(batch.merged[i], alone.merged[0], rtol=0, atol=1e-5)
            assert torch.equal(batch.codes[i], alone.codes[0])

    @torch.no_grad()
    def test_dropped_patches_reach_the_kept_rows(self, tiny_tokenizer, pixel_values):
        tokenizer = tiny_tokenizer(merger_softmax="masked")
        features = tokenizer.embedding(tokenizer.encode(pixel_values[:1]).last_hidden_state)
        keep_mask = torch.zeros(1, 16, dtype=torch.bool)
        keep_mask[0, :4] = True
        changed = features.clone()
        changed[0, 10, :5] += 3
        assert not torch.allclose(tokenizer.merger(features, keep_mask), tokenizer.merger(changed, keep_mask))


def _merge_densely(merger, features, keep_mask):
    rows = []
    for image, kept in zip(features, keep_mask):
        sources, hidden = merger.source_norm(image), image
        order = torch.arange(len(kept))
        self_mask = (order[:, None] >= order) & (kept | (order[:, None] == order))
        for layer in merger.layers:
            hidden = hidden + _attend(layer.self_attn, layer.self_attn_norm(hidden), None, self_mask)
            hidden = hidden + _attend(layer.cross_attn, layer.cross_attn_norm(hidden), sources, ~kept[None, :])
            hidden = hidden + layer.mlp(layer.mlp_norm(hidden))
        rows.append(merger.norm(hidden[kept]))
    return torch.cat(rows)


def _attend(attention, queries, keys, mask):
    keys = queries if keys is None else keys
    heads, width = attention.config.num_attention_heads, attention.head_dim
    query, key, value = (
        projection(rows).view(-1, heads, width).transpose(0, 1)
        for projection, rows in (
            (attention.query_projection, queries),
            (attention.key_projection, keys),
            (attention.value_projection, keys),
        )
    )
    scores = (query @ key.transpose(-1, -2) / width**0.5).masked_fill(~mask, -math.inf)
    return attention.output_projection((scores.softmax(dim=-1) @ value).transpose(0, 1).reshape(len(queries), -1))


class TestTraining:
    @pytest.mark.parametrize("merger_softmax", ["original", "masked"])
    def test_gradients_reach_every_trained_part(self, tiny_tokenizer, pixel_values, merger_softmax):
        tokenizer = tiny_tokenizer(merger_softmax=merger_softmax).train()
        outputs = tokenizer(pixel_values, generator=torch.Generator().manual_seed(0))
        torch.cat(outputs.quantized).pow(3).sum().backward()
        for part in (
            tokenizer.selector,
            tokenizer.merger,
            tokenizer.quantizer.input_projection,
            tokenizer.quantizer.output_projection,
        ):
            gradients = {name: parameter.grad for name, parameter in part.named_parameters()}
            assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
            assert any(gradient.abs().max() > 0 for gradient in gradients.values())

    def test_straight_through_changes_no_value(self, tiny_tokenizer, pixel_values):
        tokenizer = tiny_tokenizer()
        trained = tokenizer(pixel_values, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            used = tokenizer(pixel_values, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(torch.cat(trained.merged), torch.cat(used.merged))
        torch.testing.assert_close(torch.cat(trained.quantized), torch.cat(used.quantized))

    @pytest.mark.parametrize("merger_softmax", ["original", "masked"])
    def test_gradient_checkpointing_changes_no_gradient(self, tiny_tokenizer, pixel_values, merger_softmax):
        gradients = []
        for checkpointing in (False, True):
            tokenizer = tiny_tokenizer(merger_softmax=merger_softmax).train()
            if checkpointing:
                tokenizer.activation_checkpointing_enable()
            outputs = tokenizer(pixel_values, generator=torch.Generator().manual_seed(0))
            torch.cat(outputs.quantized).sum().backward()
            gradients.append(tokenizer.merger.layers[0].mlp.expansion.weight.grad)
        torch.testing.assert_close(*gradients)


class TestEncoders:
    @pytest.mark.parametrize("model_type", ["clip_vision_model", "dinov2", "siglip_vision_model", "vit"])
    def test_any_vision_transformer(self, model_type):
        from transformers import AutoConfig

        encoder_config = AutoConfig.for_model(
            model_type,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        )
        config = tiny_visual_config(encoder_config=encoder_config, encoder_final_norm=True)
        outputs = LaVITVisualTokenizer(config).eval()(torch.randn(2, 3, 32, 32))
        assert outputs.last_hidden_state.shape == (2, 16, 32)

    @pytest.fixture
    def convolutional(self) -> LaVITVisualTokenizer:
        """A tokenizer that sees by convolutions, in maps of three strides."""
        encoder_config = ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 12, 16],
            depths=[1, 1, 1],
            layer_type="basic",
            out_features=["stage1", "stage2", "stage3"],
        )
        config = tiny_visual_config(
            encoder_config=encoder_config,
            encoder_output="feature_maps",
            image_size=32,
            patch_size=8,
            feature_size=8 * 4 + 12 + 16,  # the finest map has four values for each patch
            hidden_size=32,
            use_position_embeddings=True,
        )
        torch.manual_seed(0)
        return LaVITVisualTokenizer(config).eval()

    def test_convolutional_backbone_of_several_strides(self, convolutional, pixel_values):
        outputs = convolutional(pixel_values)
        assert outputs.last_hidden_state.shape == (3, 16, 60)
        assert outputs.merged[0].shape[1] == 32
        assert convolutional.embedding.position_embedding.std() > 0

    @pytest.mark.parametrize("count", [1, 8, 21])
    def test_convolutions_see_the_same_however_many_images(self, convolutional, count):
        pixel_values = torch.randn(count, 3, 32, 32)
        outputs = convolutional.encode(pixel_values, output_hidden_states=True)
        by_itself = convolutional.encoder.model(pixel_values, output_hidden_states=True)
        assert len(outputs.hidden_states) == len(by_itself.hidden_states)
        for given, expected in zip(outputs.hidden_states, by_itself.hidden_states):
            torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
        # The features of the plain order of memory, all images at once: the coarsest map comes last.
        coarsest = torch.nn.functional.interpolate(
            by_itself.feature_maps[-1], size=(4, 4), mode="bilinear", antialias=True
        )
        torch.testing.assert_close(
            outputs.last_hidden_state[..., -16:], coarsest.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5
        )

    def test_final_norm_is_left_out(self, tiny_tokenizer):
        with_norm = tiny_tokenizer(encoder_final_norm=True)
        without = tiny_tokenizer()
        assert not any("post_layernorm" in name for name in without.state_dict())
        assert any("post_layernorm" in name for name in with_norm.state_dict())


class TestLoading:
    def test_saving_again_gives_the_same_bytes(self, tiny_tokenizer, tmp_path):
        tiny_tokenizer().save_pretrained(tmp_path / "new")
        LaVITVisualTokenizer.from_pretrained(tmp_path / "new").save_pretrained(tmp_path / "first")
        LaVITVisualTokenizer.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
        for name in ("config.json", "model.safetensors"):
            assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()

    def test_loads_alone_out_of_a_full_repo(self, golden, tmp_path):
        """Every file that does not hold the tokenizer can be missing."""
        from lavit_hf.conversion import convert_checkpoint

        repo = convert_checkpoint(golden.original, tmp_path / "repo", 4, max_shard_size="400KB")
        index = json.loads((repo / "visual_tokenizer.safetensors.index.json").read_text())
        needed = set(index["weight_map"].values())
        for path in repo.glob("model-*.safetensors"):
            if path.name not in needed:
                path.unlink()
        assert len(needed) < len(json.loads((repo / "model.safetensors.index.json").read_text())["weight_map"])
        tokenizer, info = LaVITVisualTokenizer.from_pretrained(repo, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        tokenizer.save_pretrained(tmp_path / "alone")
        assert LaVITVisualTokenizer.from_pretrained(tmp_path / "alone").config.codebook_size == 512

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_leaves_the_selector_in_fp32(self, converted, golden, dtype):
        tokenizer = LaVITVisualTokenizer.from_pretrained(converted, dtype=dtype)
        assert tokenizer.merger.norm.weight.dtype == dtype
        outputs = tokenizer(golden.tensors["pixel_values"])
        assert outputs.keep_log_probs.dtype == torch.float32
        assert all(rows.dtype == dtype for rows in outputs.merged)

    def test_codes_do_not_move_under_autocast(self, tiny_tokenizer):
        quantizer = tiny_tokenizer(codebook_size=4096).quantizer
        projected = torch.nn.functional.normalize(
            torch.randn(500, 8, generator=torch.Generator().manual_seed(0)), dim=-1
        )
        with torch.autocast("cpu", torch.bfloat16):
            codes = quantizer.nearest(projected)
        assert torch.equal(codes, quantizer.nearest(projected))

    def test_merger_softmax_follows_the_config(self, tiny_tokenizer, pixel_values):
        keep_mask = torch.rand(3, 16, generator=torch.Generator().manual_seed(0)) < 0.4
        tokenizer = tiny_tokenizer(merger_softmax="original")
        tokenizer.config.merger_softmax = "masked"
        expected = tiny_tokenizer(merger_softmax="masked")(pixel_values, keep_mask=keep_mask)
        assert all(map(torch.equal, tokenizer(pixel_values, keep_mask=keep_mask).merged, expected.merged))

    def test_casting_a_loaded_model_leaves_the_selector_as_it_is(self, tiny_tokenizer):
        tokenizer = tiny_tokenizer()
        before = copy.deepcopy(tokenizer.selector.state_dict())
        tokenizer.to(torch.bfloat16)
        assert tokenizer.merger.norm.weight.dtype == torch.bfloat16
        assert all(torch.equal(value, before[name]) for name, value in tokenizer.selector.state_dict().items())

    def test_tuple_holds_what_the_output_class_holds(self, tiny_tokenizer, pixel_values):
        tokenizer = tiny_tokenizer(selection="threshold")
        outputs = tokenizer(pixel_values)
        as_tuple = tokenizer(pixel_values, return_dict=False)
        assert len(as_tuple) == len(outputs)
        assert torch.equal(as_tuple[0], outputs.last_hidden_state)
        assert all(map(torch.equal, as_tuple[1], outputs.codes))

    def test_encoder_compiles(self, tiny_tokenizer, pixel_values):
        tokenizer = tiny_tokenizer()
        expected = tokenizer.encoder(pixel_values).last_hidden_state
        compiled = torch.compile(tokenizer.encoder, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(pixel_values).last_hidden_state, expected, rtol=0, atol=1e-5)

    def test_every_parameter_is_initialized(self):
        """No parameter is left as it was allocated: two seeds differ wherever there is more than zeros and ones."""
        models = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            models.append(LaVITVisualTokenizer(tiny_visual_config(use_position_embeddings=True)).state_dict())
        for name, value in models[0].items():
            assert value.isfinite().all(), name
            constant = bool(((value == 0) | (value == 1)).all())
            assert constant or not torch.equal(value, models[1][name]), name
        assert models[0]["quantizer.codebook.weight"].norm(dim=-1).mean().item() == pytest.approx(1, abs=0.2)


class TestBadInput:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (torch.zeros(3, 32, 32), "shape"),
            (torch.zeros(1, 3, 16, 16), "shape"),
            (torch.zeros(1, 1, 32, 32), "shape"),
            (torch.zeros(0, 3, 32, 32), "shape"),
            (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "floats"),
            (torch.full((1, 3, 32, 32), math.nan), "NaN"),
        ],
    )
    def test_pixel_values(self, tiny_tokenizer, bad, message):
        with pytest.raises(ValueError, match=message):
            tiny_tokenizer()(bad)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("selection", [{"keep_ratio": 0.3}, {"keep_mask": torch.ones(2, 16, dtype=torch.bool)}])
    def test_pixel_values_that_are_not_finite_with_as_many_patches_as_asked_for(
        self, tiny_tokenizer, pixel_values, selection, value
    ):
        images = pixel_values[:2].clone()
        images[1, 0, 0, 0] = value
        with pytest.raises(ValueError, match=r"no patch of image 1 is kept.*NaN or infinite"):
            tiny_tokenizer()(images, **selection)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (torch.ones(3, 15, dtype=torch.bool), "keep_mask must be boolean"),
            (torch.ones(3, 16), "keep_mask must be boolean"),
            (torch.tensor([[True] * 16, [False] * 16, [True] * 16]), "no patch of image 1 is kept"),
        ],
    )
    def test_keep_mask(self, tiny_tokenizer, pixel_values, bad, message):
        with pytest.raises(ValueError, match=message):
            tiny_tokenizer()(pixel_values, keep_mask=bad)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"num_attention_heads": 3}, "divisible"),
            ({"selection": "count"}, "keep_count"),
            ({"selection": "count", "keep_count": 17}, "keep_count"),
            ({"keep_ratio": 0.0}, "keep_ratio"),
            ({"keep_threshold": 1.0}, "keep_threshold"),
            ({"encoder_config": ResNetConfig()}, "image_size"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            tiny_visual_config(**settings)

    @pytest.mark.parametrize(
        "settings",
        [{"selection": "count"}, {"selection": "count", "keep_count": 17}, {"selection": "ratio", "keep_ratio": 5.0}],
    )
    def test_settings_changed_after_loading(self, tiny_tokenizer, pixel_values, settings):
        tokenizer = tiny_tokenizer()
        for name, value in settings.items():
            setattr(tokenizer.config, name, value)
        with pytest.raises(ValueError, match="keep_"):
            tokenizer(pixel_values)

    def test_unknown_rule(self):
        with pytest.raises(Exception, match="selection"):
            LaVITVisualTokenizerConfig(selection="best")

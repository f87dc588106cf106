# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The detokenizer: equal to the released one, trainable, and clear about bad input."""

import itertools

import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file

from lavit_hf.lavit.configuration_lavit import LaVITDetokenizerConfig
from lavit_hf.pixels.modeling_detokenizer import LaVITDetokenizer
from lavit_hf.pixels.place_head import ordered_log_probs


PARITY = {"rtol": 0, "atol": 1e-4}
SAME = {"rtol": 0, "atol": 1e-5}

NUM_PATCHES, CODEBOOK_DIM, CODEBOOK_SIZE = 9, 6, 20


def tiny_detokenizer(**kwargs) -> LaVITDetokenizer:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    config = LaVITDetokenizerConfig(
        **{"cross_attention_dims": [8, 12], "pooled_projection_dim": 10, **kwargs},
        num_patches=NUM_PATCHES,
        feature_size=20,
        codebook_dim=CODEBOOK_DIM,
        initializer_range=0.2,
        **sizes,
    )
    return LaVITDetokenizer(config).eval()


@pytest.fixture
def detokenizer():
    detokenizer = tiny_detokenizer()
    detokenizer.set_codebook(torch.randn(CODEBOOK_SIZE, CODEBOOK_DIM))
    return detokenizer


def code_rows(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, CODEBOOK_DIM, generator=generator) for length in lengths]


class TestParity:
    @pytest.mark.parametrize("attention", ["eager", "sdpa"])
    @pytest.mark.parametrize("resolution", ["highres", "lowres"])
    def test_condition(self, repos, golden, resolution, attention):
        detokenizer = LaVITDetokenizer.from_pretrained(
            repos[resolution], subfolder="detokenizer", dtype=torch.float32, attn_implementation=attention
        )
        rows = golden.tensors["tokenizer.quantized"].split(golden.tensors["tokenizer.token_nums"].tolist())
        with torch.no_grad():
            outputs = detokenizer(rows)
        torch.testing.assert_close(outputs.prompt_embeds, golden.tensors[f"{resolution}.prompt_embeds"], **PARITY)
        if resolution == "highres":
            expected = golden.tensors["highres.pooled_prompt_embeds"]
            torch.testing.assert_close(outputs.pooled_prompt_embeds, expected, **PARITY)
        else:
            assert outputs.pooled_prompt_embeds is None

    def test_negative_condition(self, repos, golden):
        stored = golden.tensors["lowres.uncond_embeddings"]
        detokenizer = LaVITDetokenizer.from_pretrained(repos["lowres"], subfolder="detokenizer", dtype=torch.float32)
        embeds, mask = detokenizer.negative_condition(golden.tensors["lowres.prompt_embeds"][:2])
        assert embeds.shape == golden.tensors["lowres.prompt_embeds"][:2].shape
        assert torch.equal(embeds[:, : stored.shape[1]], stored.expand(2, -1, -1))
        assert not embeds[:, stored.shape[1] :].any()
        assert mask.sum(dim=1).tolist() == [stored.shape[1]] * 2
        assert mask[:, : stored.shape[1]].all()


class TestForward:
    def test_shapes(self, detokenizer):
        outputs = detokenizer(code_rows(3, 1, 9))
        assert outputs.features.shape == (3, NUM_PATCHES, 20)
        assert outputs.prompt_embeds.shape == (3, NUM_PATCHES, 20)
        assert outputs.pooled_prompt_embeds.shape == (3, 10)

    def test_an_image_does_not_depend_on_its_batch(self, detokenizer):
        rows = code_rows(2, 9, 5)
        together = detokenizer(rows)
        for number, image in enumerate(rows):
            alone = detokenizer([image])
            for name in ("features", "prompt_embeds", "pooled_prompt_embeds"):
                torch.testing.assert_close(together[name][number], alone[name][0], **SAME)

    def test_order_and_length_of_codes_matter(self, detokenizer):
        (rows,) = code_rows(4)
        features = detokenizer([rows]).features
        for other in (rows.flip(0), rows[:3]):
            assert (detokenizer([other]).features - features).abs().max() > 1e-3

    def test_codes_are_rows_of_the_codebook(self, detokenizer):
        codes = [torch.tensor([3, 0, 19]), torch.tensor([7])]
        rows = [detokenizer.codebook[image] for image in codes]
        assert torch.equal(detokenizer(codes=codes).features, detokenizer(rows).features)

    def test_features_alone(self):
        outputs = tiny_detokenizer(cross_attention_dims=[], pooled_projection_dim=None)(code_rows(2))
        assert outputs.features is not None
        assert outputs.prompt_embeds is None and outputs.pooled_prompt_embeds is None

    def test_negative_condition_is_zeros_by_default(self, detokenizer):
        embeds, mask = detokenizer.negative_condition(torch.randn(3, NUM_PATCHES, 20))
        assert embeds.shape == (3, NUM_PATCHES, 20) and not embeds.any()
        assert mask is None

    def test_half_precision(self, detokenizer):
        outputs = detokenizer.to(torch.bfloat16)(code_rows(2, 5))
        assert outputs.prompt_embeds.dtype == torch.bfloat16
        assert outputs.prompt_embeds.isfinite().all()


class TestTraining:
    def test_every_parameter_and_the_rows_get_gradients(self, detokenizer):
        rows = [image.requires_grad_() for image in code_rows(3, 9)]
        outputs = detokenizer.train()(rows)
        (outputs.prompt_embeds.square().sum() + outputs.pooled_prompt_embeds.square().sum()).backward()
        without = [name for name, parameter in detokenizer.named_parameters() if not parameter.grad.any()]
        assert [name for name in without if not name.endswith(("k_proj.bias", "key_projection.bias"))] == []
        assert all(image.grad.any() for image in rows)

    def test_gradient_checkpointing_changes_nothing(self, detokenizer):
        gradients = []
        for checkpointed in (False, True):
            if checkpointed:
                detokenizer.gradient_checkpointing_enable()
            detokenizer.zero_grad()
            detokenizer.train()(code_rows(3, 9)).features.square().sum().backward()
            gradients.append(detokenizer.in_proj.weight.grad.clone())
        torch.testing.assert_close(*gradients)

    def test_bare_parameters_are_drawn(self):
        detokenizer = tiny_detokenizer()
        for parameter in (
            detokenizer.position_embedding,
            detokenizer.query_embedding,
            detokenizer.pooler.position_embedding,
        ):
            assert 0.05 < parameter.std() < 0.5

    def test_missing_weights_are_drawn_on_load(self, tmp_path):
        detokenizer = tiny_detokenizer()
        weights = detokenizer.state_dict()
        left_out = ["position_embedding", "query_embedding", "pooler.position_embedding"]
        detokenizer.save_pretrained(
            tmp_path, state_dict={name: tensor for name, tensor in weights.items() if name not in left_out}
        )
        loaded = LaVITDetokenizer.from_pretrained(tmp_path).state_dict()
        for name in left_out:
            assert 0.05 < loaded[name].std() < 0.5, name


class TestPlaceHead:
    """Codes that tell their places: off in the released form, whose weights and outputs have nothing of it."""

    @pytest.fixture
    def placed(self):
        return tiny_detokenizer(num_place_layers=2)

    def test_off_by_default(self, detokenizer):
        assert detokenizer.place_head is None
        assert not [name for name in detokenizer.state_dict() if "place" in name]
        assert detokenizer(code_rows(3)).place_log_probs is None

    def test_log_probabilities_of_every_code(self, placed):
        log_probs = placed(code_rows(3, 5)).place_log_probs
        assert log_probs.shape == (2, 5, NUM_PATCHES) and log_probs.dtype == torch.float32
        torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(2, 5))

    @pytest.mark.parametrize("length", [1, 3, 5])
    def test_probabilities_are_those_of_the_sentences_in_order(self, length):
        """Against a sum over all increasing sentences."""
        scores = torch.randn(1, length, 5, generator=torch.Generator().manual_seed(0))
        expected = torch.zeros(length, 5)
        for places in itertools.combinations(range(5), length):
            weight = scores[0, range(length), places].sum().exp()
            expected[range(length), places] += weight
        padded = torch.cat([scores, torch.randn(1, 5 - length, 5)], dim=1)
        real = torch.arange(5) < length
        log_probs = ordered_log_probs(padded, real[None])[0, :length]
        torch.testing.assert_close(log_probs.exp(), expected / expected.sum(dim=-1, keepdim=True))

    def test_gradient_is_finite_where_one_place_alone_is_possible(self):
        scores = torch.randn(2, 9, 9, requires_grad=True)  # as many codes as places
        log_probs = ordered_log_probs(scores, torch.ones(2, 9, dtype=torch.bool))
        assert torch.equal(log_probs.argmax(dim=-1), torch.arange(9).expand(2, -1))
        log_probs[:, range(9), range(9)].sum().backward()
        assert scores.grad.isfinite().all()

    def test_an_image_does_not_depend_on_its_batch(self, placed):
        rows = code_rows(3, 9, 1)
        together = placed(rows)
        for number, image in enumerate(rows):
            alone = placed([image])
            torch.testing.assert_close(together.features[number : number + 1], alone.features, **SAME)
            expected = together.place_log_probs[number : number + 1, : len(image)]
            torch.testing.assert_close(alone.place_log_probs, expected, **SAME)

    def test_a_sure_guess_is_as_good_as_being_told(self, placed):
        """Where all the probability lies on one place, its embedding is what is added."""
        rows, places = code_rows(3, 2), [torch.tensor([1, 4, 7]), torch.tensor([0, 8])]
        sure = torch.full((2, 3, NUM_PATCHES), -torch.inf)
        for number, image in enumerate(places):
            sure[number, range(len(image)), image] = 0.0
        sure[1, 2, 0] = 0.0  # padding
        told = placed(rows, places=places)
        placed.place_head.forward = lambda hidden_states, real: sure
        torch.testing.assert_close(placed(rows).features, told.features, **SAME)

    @torch.no_grad()
    def test_offloaded_weights_are_loaded(self, placed):
        expected = placed(code_rows(3, 2)).features
        cpu_offload(placed, execution_device="cpu")
        torch.testing.assert_close(placed(code_rows(3, 2)).features, expected, **SAME)

    def test_places_matter(self, placed):
        rows = code_rows(3)
        first = placed(rows, places=[torch.tensor([0, 1, 2])])
        second = placed(rows, places=[torch.tensor([2, 5, 8])])
        assert (first.features - second.features).abs().max() > 1e-2
        assert torch.equal(first.place_log_probs, second.place_log_probs)

    def test_round_trip(self, placed, tmp_path):
        placed.save_pretrained(tmp_path)
        loaded = LaVITDetokenizer.from_pretrained(tmp_path)
        assert torch.equal(loaded(code_rows(4)).features, placed(code_rows(4)).features)

    @pytest.mark.parametrize(
        ("places", "message"),
        [
            ([torch.tensor([1, 2])], "image 0 must have integer places of shape"),
            ([torch.tensor([1.0, 2.0, 3.0])], "image 0 must have integer places"),
            ([torch.tensor([1, 2, 9])], "image 0 has the place 9, but an image has 9 patches"),
            ([torch.tensor([-1, 2, 3])], "image 0 has the place -1"),
            ([], "places for 0 images, but codes for 1"),
        ],
    )
    def test_bad_places(self, placed, places, message):
        with pytest.raises(ValueError, match=message):
            placed(code_rows(3), places=places)

    def test_places_without_a_head(self, detokenizer):
        with pytest.raises(ValueError, match="no place head"):
            detokenizer(code_rows(3), places=[torch.tensor([1, 2, 3])])


class TestSaveAndLoad:
    def test_round_trip(self, tmp_path):
        detokenizer = tiny_detokenizer(num_negative_embeds=3)
        detokenizer.negative_embeds.normal_()
        detokenizer.save_pretrained(tmp_path)
        loaded = LaVITDetokenizer.from_pretrained(tmp_path)
        rows = code_rows(4, 2)
        assert torch.equal(loaded(rows).prompt_embeds, detokenizer(rows).prompt_embeds)
        condition = detokenizer(rows).prompt_embeds
        assert torch.equal(loaded.negative_condition(condition)[0], detokenizer.negative_condition(condition)[0])

    def test_codebook_stays_with_the_visual_tokenizer(self, detokenizer, tmp_path):
        detokenizer.save_pretrained(tmp_path)
        assert not [name for name in load_file(tmp_path / "model.safetensors") if "codebook" in name]
        assert LaVITDetokenizer.from_pretrained(tmp_path).codebook is None

    def test_codebook_moves_along_and_is_no_parameter(self, detokenizer):
        assert detokenizer.to(torch.float64).codebook.dtype == torch.float64
        assert "codebook" not in dict(detokenizer.named_parameters())


class TestBadInput:
    def test_both_or_neither(self, detokenizer):
        with pytest.raises(ValueError, match="either code_rows or codes"):
            detokenizer()
        with pytest.raises(ValueError, match="either code_rows or codes"):
            detokenizer(code_rows(2), codes=[torch.tensor([1])])

    @pytest.mark.parametrize(
        "rows, message",
        [
            ([], "the list is empty"),
            (code_rows(2, 0), "image 1 has 0 codes"),
            (code_rows(NUM_PATCHES + 1), f"between one and {NUM_PATCHES}"),
            ([torch.zeros(3, CODEBOOK_DIM + 1)], r"shape \(kept, 6\)"),
            ([torch.zeros(CODEBOOK_DIM)], r"shape \(kept, 6\)"),
        ],
    )
    def test_code_rows(self, detokenizer, rows, message):
        with pytest.raises(ValueError, match=message):
            detokenizer(rows)

    @pytest.mark.parametrize(
        "codes, message",
        [
            (torch.tensor([0, CODEBOOK_SIZE]), f"code {CODEBOOK_SIZE}, but the codebook has {CODEBOOK_SIZE} rows"),
            (torch.tensor([-1]), "code -1"),
            (torch.tensor([0.5]), "integer codes"),
            (torch.tensor([[1]]), "integer codes"),
        ],
    )
    def test_codes(self, detokenizer, codes, message):
        with pytest.raises(ValueError, match=message):
            detokenizer(codes=[codes])

    def test_no_codebook(self):
        with pytest.raises(ValueError, match="set_codebook"):
            tiny_detokenizer()(codes=[torch.tensor([1])])

    def test_codebook_of_another_release(self, detokenizer):
        with pytest.raises(ValueError, match="do not belong together"):
            detokenizer.set_codebook(torch.zeros(CODEBOOK_SIZE, CODEBOOK_DIM + 1))

    @pytest.mark.parametrize(
        "setting", [{"num_negative_embeds": 300}, {"pooled_projection_dim": 8, "feature_size": 1401}]
    )
    def test_config(self, setting):
        with pytest.raises(ValueError, match=next(iter(setting)).split("_")[0]):
            LaVITDetokenizerConfig(**setting)

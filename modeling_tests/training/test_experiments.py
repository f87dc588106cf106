# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What ablations change in training: what is merged, what is read, how images are written, and what decoders know."""

import sys

import pytest
import torch
from torch import nn
from transformers import LlamaConfig


pytest.importorskip("datasets")
pytest.importorskip("vector_quantize_pytorch")

from conftest import tiny_visual_config
from lavit_hf import (
    LaVITForPreTraining,
    LaVITTokenSelectionForPreTraining,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.language_data import SampleMaker
from lavit_hf.training.settings import load_function
from training_runs import EXAMPLES, write_tokenizer


sys.path.insert(0, str(EXAMPLES / "emoji"))
from row_regression import LaVITForRowRegression


NUM_PATCHES, WIDTH = 16, 32  # of the tiny visual tokenizer


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text_config() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip


class TestLostPatches:
    @pytest.mark.parametrize("form", ["train", "inference"])
    @pytest.mark.parametrize("merge_dropped", [True, False])
    def test_dropped_ones_matter_where_they_are_merged(self, form, merge_dropped):
        torch.manual_seed(0)
        config = tiny_visual_config(merger_softmax="masked", merge_dropped=merge_dropped)
        merger = LaVITVisualTokenizer(config).merger.eval()
        features, mask = draw(2, NUM_PATCHES, WIDTH), draw(2, NUM_PATCHES, seed=1) > 0
        others = torch.where(mask[..., None], features, draw(2, NUM_PATCHES, WIDTH, seed=2))
        masks = mask.float().requires_grad_() if form == "train" else mask
        difference = (merger(features, masks) - merger(others, masks)).abs().max()
        assert (difference > 1e-3) == merge_dropped and (merge_dropped or difference < 1e-6)


class TestChosenPatches:
    def test_have_the_last_word(self, tmp_path):
        model = LaVITVisualTokenizerForPreTraining.from_pretrained(write_tokenizer(tmp_path / "stage-0")).eval()
        wanted = torch.zeros(2, NUM_PATCHES, dtype=torch.bool)
        wanted[0, 3] = wanted[1, :7] = True
        seen = {}

        def choose(masks, features, generator):
            seen.update(masks=masks, features=features)
            return wanted

        model.patch_choice = choose
        features = draw(2, NUM_PATCHES, model.config.feature_size)
        assert torch.equal(model(features=features).keep_mask, wanted)
        assert torch.equal(seen["features"], features) and seen["masks"].dtype == torch.bool


class TestPlacesByRank:
    def test_the_decoder_knows_ranks(self, tmp_path):
        stage_0 = write_tokenizer(tmp_path / "stage-0", selector_feature_size=20)
        model = LaVITTokenSelectionForPreTraining.from_pretrained(stage_0).eval()
        mask = torch.zeros(1, NUM_PATCHES, dtype=torch.bool)
        mask[0, [2, 5, 11]] = True
        told = []
        model.scaffold.register_forward_pre_hook(lambda module, inputs: told.append(inputs[1].tolist()))
        model.reconstruct(draw(1, NUM_PATCHES, model.config.feature_size), mask)
        model.places_by_rank = True
        model.reconstruct(draw(1, NUM_PATCHES, model.config.feature_size), mask)
        assert told == [[[2, 5, 11]], [[0, 1, 2]]]


class TestReadCodes:
    def test_samples_bring_codes(self):
        row = {"codes": [4, 2], "rows": b"", "keep_mask": [True], "texts": ["a cat"]}
        sample = SampleMaker(["image_text"], read_codes=True).pair(row, 0)
        assert sample == {"layout": "codes_text", "prompt": "", "answer": "a cat", "further": [], "codes": [4, 2]}
        assert SampleMaker(["text_image"], read_codes=True).pair(row, 0)["layout"] == "text_image"


class TestRows:
    @pytest.fixture
    def model(self) -> LaVITForRowRegression:
        torch.manual_seed(0)
        tokenizer = LaVITVisualTokenizer(tiny_visual_config())
        return LaVITForRowRegression.from_visual_tokenizer(tokenizer, text_config()).eval()

    def test_loss_by_hand(self, model):
        """A text of two ids, then an image of two codes."""
        config, codebook = model.config, model.visual_tokenizer.quantizer.codebook.weight
        codes = torch.tensor([3, 7])
        ids = torch.tensor([[5, 6, config.image_start_token_id, *(config.first_code_token_id + codes).tolist(),
                             config.image_end_token_id]])  # fmt: skip
        labels = ids.clone()
        labels[:, :3] = -100
        embeds = model.get_input_embeddings()(ids)
        embeds[0, 3:5] = model.row_embedding(codebook[codes])
        hidden = model.model(inputs_embeds=embeds).last_hidden_state[0, 2:5]  # what predicts the three targets
        squares = (model.row_head(hidden[:2]) - codebook[codes]).square().sum(dim=-1)
        ends = nn.functional.binary_cross_entropy_with_logits(
            model.end_head(hidden)[:, 0], torch.tensor([0.0, 0.0, 1.0]), reduction="none"
        )
        expected = (ends.sum() + squares.sum()) / 3
        torch.testing.assert_close(model(ids, torch.ones_like(ids), labels).loss, expected)

    def test_texts_are_learned_as_ever(self, model):
        ids = torch.tensor([[1, 2, 3, 4]])
        labels = torch.tensor([[-100, 2, 3, 4]])
        expected = LaVITForPreTraining._compare(
            model, model.model(ids).last_hidden_state[0, :3], torch.tensor([2, 3, 4])
        ).mean()
        torch.testing.assert_close(model(ids, torch.ones_like(ids), labels).loss, expected)

    def test_writes_what_it_would_without_a_cache(self, model):
        prompts = torch.tensor([[0, 0, 5, model.config.image_start_token_id],
                                [9, 8, 7, model.config.image_start_token_id]])  # fmt: skip
        mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
        nn.init.constant_(model.end_head.bias, -100)
        written = model.generate_rows(prompts, mask, max_rows=3)
        assert [rows.shape for rows in written] == [(3, model.config.visual_tokenizer_config.codebook_dim)] * 2
        embeds = torch.cat([model._embed(prompts[:1, 2:]), model.row_embedding(written[0])[None]], dim=1)
        hidden = model.model(inputs_embeds=embeds).last_hidden_state[0, 1:4]
        torch.testing.assert_close(
            written[0], nn.functional.normalize(model.row_head(hidden), dim=-1), atol=1e-5, rtol=0
        )

    def test_stops_at_the_end_but_not_before_a_row(self, model):
        nn.init.constant_(model.end_head.bias, 100)
        prompt = torch.tensor([[5, model.config.image_start_token_id]])
        assert [len(rows) for rows in model.generate_rows(prompt, torch.ones_like(prompt), max_rows=4)] == [1]

    def test_is_saved_with_its_heads(self, model, tmp_path):
        model.save_pretrained(tmp_path / "rows")
        again = LaVITForRowRegression.from_pretrained(tmp_path / "rows").eval()
        prompt = torch.tensor([[5, model.config.image_start_token_id]])
        rows = [each.generate_rows(prompt, torch.ones_like(prompt), max_rows=2)[0] for each in (model, again)]
        torch.testing.assert_close(*rows)


class TestNamedFunctions:
    def test_are_loaded(self):
        assert load_function(f"{EXAMPLES / 'emoji' / 'choices.py'}:evenly").__name__ == "evenly"

    @pytest.mark.parametrize(
        ("reference", "message"), [("nowhere.py:f", "of an existing file, got 'nowhere.py:f'"),
                                   (f"{EXAMPLES / 'emoji' / 'choices.py'}:oddly", "has no function 'oddly'")],
    )  # fmt: skip
    def test_refuses(self, reference, message):
        with pytest.raises(TrainingError, match=message):
            load_function(reference)

    def test_another_module_of_the_same_name(self, tmp_path):
        """Python would return the first one again."""
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "choices_of_mine.py").write_text(f"def name():\n    return {folder!r}\n")
        assert load_function(f"{tmp_path / 'one' / 'choices_of_mine.py'}:name")() == "one"
        with pytest.raises(
            TrainingError, match=r"two/choices_of_mine\.py cannot be imported.*one/choices_of_mine\.py"
        ):
            load_function(f"{tmp_path / 'two' / 'choices_of_mine.py'}:name")

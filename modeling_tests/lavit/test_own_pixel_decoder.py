# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What a model loads from its own repo when it is needed, also by several threads at once."""

import torch

import lavit_hf.lavit.own_pixel_decoder
from lavit_hf import LaVITForCausalLM, bundled_checkpoint
from threads import run_in_threads


def load(number: int = 0) -> LaVITForCausalLM:
    return LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype=torch.float32)


class TestThreads:
    def test_models_have_their_weights(self):
        expected = load().state_dict()
        for model in run_in_threads(load, range(3)):
            assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
        assert torch.nn.Linear(1, 1).weight.device.type == "cpu"

    def test_the_first_loads_the_pixel_decoder(self, monkeypatch):
        model, loaded = load(), []
        load_pipeline = lavit_hf.lavit.own_pixel_decoder.load_pipeline

        def count(*args, **kwargs):
            loaded.append(load_pipeline(*args, **kwargs))
            loaded[-1].set_progress_bar_config(disable=True)
            loaded[-1].register_to_config(default_num_inference_steps=1)
            return loaded[-1]

        monkeypatch.setattr(lavit_hf.lavit.own_pixel_decoder, "load_pipeline", count)
        ids = torch.tensor([[model.config.first_code_token_id + number for number in range(5)]])
        pictures = run_in_threads(lambda number: model.decode_image_tokens(ids), range(3))
        assert len(loaded) == 1
        assert all(picture.isfinite().all() for picture in pictures)

    def test_the_first_loads_the_detokenizer(self, monkeypatch):
        model, loaded = load(), []
        monkeypatch.setattr(model.visual_tokenizer, "attach_detokenizer", lambda one: loaded.append(attach(one)))
        attach = type(model.visual_tokenizer).attach_detokenizer.__get__(model.visual_tokenizer)
        pixel_values = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
        tokens = run_in_threads(lambda number: model.get_image_tokens(pixel_values, keep_error=0.5)[0], range(3))
        assert len(loaded) == 1
        assert all(torch.equal(tokens[0], other) for other in tokens)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A finetuned model saved as its repo is laid out, with what paints."""

import pytest
import torch
from diffusers import DiffusionPipeline

from lavit_hf import LaVITForCausalLM, LaVITPipeline, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.hub.replacing import save_with_pixel_decoder


def change(model: LaVITForCausalLM) -> torch.Tensor:
    weight = model.language_model.get_submodule("layers.0.self_attn.q_proj").weight
    weight.data += 1
    return weight


@pytest.mark.slow
def test_of_a_repo_on_the_hub(reader, published, repos, tmp_path):
    model, processor = LaVITForCausalLM.from_pretrained(published), LaVITProcessor.from_pretrained(published)
    weight = change(model)
    save_with_pixel_decoder(model, processor, tmp_path / "mine", published)
    pipeline = LaVITPipeline.from_pretrained(tmp_path / "mine")
    of_pipeline = pipeline.language_model.language_model.get_submodule("layers.0.self_attn.q_proj").weight
    again = LaVITForCausalLM.from_pretrained(tmp_path / "mine").language_model
    for loaded in (of_pipeline, again.get_submodule("layers.0.self_attn.q_proj").weight):
        assert torch.equal(loaded.to(weight), weight)
    before = LaVITPipeline.from_pretrained(repos["lowres"])
    for name in ("unet", "vae", "detokenizer"):
        ours, theirs = (getattr(some, name).state_dict() for some in (pipeline, before))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert LaVITProcessor.from_pretrained(tmp_path / "mine").question_template == processor.question_template
    codebook = LaVITVisualTokenizer.from_pretrained(tmp_path / "mine").quantizer.codebook.weight
    assert torch.equal(codebook, model.visual_tokenizer.quantizer.codebook.weight)


def test_of_a_repo_with_its_source(repos, tmp_path):
    model = LaVITForCausalLM.from_pretrained(repos["lowres"])
    processor = LaVITProcessor.from_pretrained(repos["lowres"])
    save_with_pixel_decoder(model, processor, tmp_path, str(repos["lowres"]))
    shipped, expected = (
        {path.relative_to(repo): path.read_text() for path in repo.rglob("*.py")}
        for repo in (tmp_path, repos["lowres"])
    )
    assert (tmp_path / "pipeline.py").is_file() and shipped == expected
    options = {"custom_pipeline": str(tmp_path), "trust_remote_code": True}
    assert type(DiffusionPipeline.from_pretrained(tmp_path, **options)) is LaVITPipeline


def test_of_a_repo_that_does_not_paint(converted, tmp_path):
    model, processor = LaVITForCausalLM.from_pretrained(converted), LaVITProcessor.from_pretrained(converted)
    weight = change(model)
    save_with_pixel_decoder(model, processor, tmp_path, str(converted))
    again = LaVITForCausalLM.from_pretrained(tmp_path).language_model
    assert torch.equal(again.get_submodule("layers.0.self_attn.q_proj").weight, weight)
    assert not (tmp_path / "model_index.json").exists() and not (tmp_path / "language_model").exists()

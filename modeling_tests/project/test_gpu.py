# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""On a CUDA device: the same codes, words and images as on the CPU."""

import pytest
import torch

from lavit_hf import LaVITForCausalLM, LaVITPipeline, LaVITProcessor


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def models(repos):
    cpu = LaVITForCausalLM.from_pretrained(repos["highres"], dtype=torch.float32)
    return cpu, LaVITForCausalLM.from_pretrained(repos["highres"], dtype=torch.float32).to("cuda")


def test_codes(models, golden):
    cpu, gpu = models
    pixel_values, keep_mask = golden.tensors["pixel_values"], golden.tensors["tokenizer.keep_mask"]
    on_gpu = gpu.get_image_tokens(pixel_values.to("cuda"), keep_mask.to("cuda"))
    assert all(torch.equal(a, b.cpu()) for a, b in zip(cpu.get_image_tokens(pixel_values, keep_mask), on_gpu))


@pytest.mark.parametrize("mode", ["text", "image"])
def test_generation(models, repos, mode):
    processor = LaVITProcessor.from_pretrained(repos["highres"])
    inputs = processor(text=["a red apple", "a dog"], generation_mode=mode, return_tensors="pt")
    settings = {"generation_mode": mode, "do_sample": False, "num_beams": 1, "max_new_tokens": 8, "min_new_tokens": 8}
    cpu, gpu = (model.generate(**inputs.to(model.device), **settings) for model in models)
    assert torch.equal(cpu, gpu.cpu())


@pytest.mark.parametrize("resolution", ["highres", "lowres"])
def test_pictures(repos, golden, resolution):
    pipeline = LaVITPipeline.from_pretrained(repos[resolution], language_model=None, dtype=torch.float32).to("cuda")
    ids = [torch.tensor(image) for image in golden.facts["image_token_ids"]]
    settings = golden.facts[resolution]
    pictures = pipeline(
        image_token_ids=ids,
        height=settings["height"],
        width=settings["width"],
        num_inference_steps=settings["num_inference_steps"],
        guidance_scale=settings["guidance_scale"],
        latents=golden.tensors[f"{resolution}.latents_in"],
        output_type="latent",
    ).images
    expected = golden.tensors[f"{resolution}.latents_out_scaled"] * pipeline.vae.config.scaling_factor
    torch.testing.assert_close(pictures.cpu(), expected, rtol=0, atol=2e-2)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Images as the released model makes them, out of one converted repo, and what the pipeline does with its input."""

import copy
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from huggingface_hub import constants
from PIL import Image
from safetensors import safe_open
from transformers import AutoModel, AutoModelForMultimodalLM, AutoProcessor

from hub_client import publish
from lavit_hf import LaVITForCausalLM, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.conversion import ConversionError, convert_checkpoint
from lavit_hf.conversion.inference import infer_detokenizer_config
from lavit_hf.conversion.layout import PIXEL_DECODERS
from lavit_hf.conversion.plan import PlannedModel, plan_file
from lavit_hf.lavit.atomic_saving import SAVE_FOLDER
from lavit_hf.pixels.image_tokens import find_codes
from lavit_hf.pixels.modeling_detokenizer import LaVITDetokenizer
from lavit_hf.pixels.picture_sizes import ASPECT_RATIOS, resolve_size
from lavit_hf.pixels.pipeline_lavit import LaVITPipeline


HEADS = 4
PARITY = {"rtol": 0, "atol": 1e-3}
FAST = {"num_inference_steps": 2, "generation_kwargs": {"min_new_tokens": 3, "max_new_tokens": 6}}
IMG, END, CODE = 32000, 32001, 32002


@pytest.fixture(scope="module")
def pipelines(repos):
    """Whole pipelines, not to be changed."""
    pipelines = {name: LaVITPipeline.from_pretrained(repo, dtype=torch.float32) for name, repo in repos.items()}
    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)
    return pipelines


@pytest.fixture
def pipeline(pipelines):
    return pipelines["highres"]


@pytest.fixture
def images(golden):
    return [Image.open(path) for path in golden.image_paths]


@pytest.fixture
def image_token_ids(golden):
    return [torch.tensor(ids) for ids in golden.facts["image_token_ids"]]


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def same_ids(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("resolution", PIXEL_DECODERS)
class TestParity:
    def arguments(self, golden, resolution):
        settings = {name: golden.facts[resolution][name] for name in ("height", "width", "num_inference_steps")}
        return {
            "image_token_ids": [torch.tensor(ids) for ids in golden.facts["image_token_ids"]],
            "guidance_scale": golden.facts[resolution]["guidance_scale"],
            "latents": golden.tensors[f"{resolution}.latents_in"],
            **settings,
        }

    def test_condition(self, pipelines, golden, image_token_ids, resolution):
        condition = pipelines[resolution].encode_image_tokens(image_token_ids)
        expected = golden.tensors[f"{resolution}.prompt_embeds"]
        torch.testing.assert_close(condition.prompt_embeds, expected, rtol=0, atol=1e-4)
        if resolution == "highres":
            expected = golden.tensors["highres.pooled_prompt_embeds"]
            torch.testing.assert_close(condition.pooled_prompt_embeds, expected, rtol=0, atol=1e-4)

    def test_latents(self, pipelines, golden, resolution):
        pipeline = pipelines[resolution]
        latents = pipeline(**self.arguments(golden, resolution), output_type="latent").images
        expected = golden.tensors[f"{resolution}.latents_out_scaled"]
        torch.testing.assert_close(latents / pipeline.vae.config.scaling_factor, expected, **PARITY)

    def test_pictures(self, pipelines, golden, resolution):
        outputs = pipelines[resolution](**self.arguments(golden, resolution), output_type="pt")
        flags = golden.facts[resolution].get("nsfw_flags")
        assert outputs.nsfw_content_detected == flags
        expected = golden.tensors[f"{resolution}.image"].clone()
        expected[flags or [False] * len(expected)] = 0  # golden holds them as they were before the safety checker
        torch.testing.assert_close(outputs.images, expected, **PARITY)


class TestPrompts:
    def test_kinds_of_prompts_in_one_batch(self, pipeline, images):
        prompts = ["a red apple", "<image> in the style of <image>", "<image>"]
        outputs = pipeline(prompts, images=images[:3], num_images_per_prompt=2, negative_prompt="blurry", **FAST)
        assert [picture.size for picture in outputs.images] == [(64, 64)] * 6
        assert all(
            ids[0] == IMG and len(find_codes(ids, pipeline.processor.tokenizer, 512)) >= 3 for ids in outputs[1]
        )

    def test_images_without_text(self, pipeline, images):
        assert len(pipeline(images=images[:2], **FAST).images) == 2

    def test_tokens_are_those_of_generate(self, pipeline, golden):
        """The language model's half is the released one: guided, greedy, two prompts at once."""
        run = golden.facts["generation_runs"][0]
        kwargs = {name: run[name] for name in ("do_sample", "max_new_tokens", "min_new_tokens")}
        kwargs["strict_image_tokens"] = False
        tokens = pipeline.generate_image_tokens(
            run["prompts"], guidance_scale=run["guidance_scale"], generation_kwargs=kwargs
        )
        assert [ids.tolist() for ids in tokens] == run["output_ids"]

    def test_negative_prompts_lead_away(self, pipeline):
        greedy = {"generation_kwargs": {**FAST["generation_kwargs"], "do_sample": False}, "guidance_scale": 5.0}
        plain = pipeline.generate_image_tokens(["a dog"], **greedy)
        assert not same_ids(plain, pipeline.generate_image_tokens(["a dog"], negative_prompt="a cat", **greedy))
        assert same_ids(plain, pipeline.generate_image_tokens(["a dog"], negative_prompt="", **greedy))
        both = pipeline.generate_image_tokens(["a dog"] * 2, negative_prompt=["a cat", ""], **greedy)
        assert same_ids(both[1:], plain) and not same_ids(both[:1], plain)

    def test_generation_settings_arrive(self, pipeline):
        kwargs = {"do_sample": False, "min_new_tokens": 9, "max_new_tokens": 9}
        assert [len(ids) for ids in pipeline.generate_image_tokens("a dog", generation_kwargs=kwargs)] == [10]
        guided = pipeline.generate_image_tokens("a dog", guidance_scale=8.0, generation_kwargs=kwargs)
        free = pipeline.generate_image_tokens("a dog", guidance_scale=1.0, generation_kwargs=kwargs)
        assert not same_ids(guided, free)
        unlimited = pipeline.generate_image_tokens("a dog", generation_kwargs={"max_new_tokens": None})
        assert len(unlimited[0]) <= 65

    def test_default_settings_do_not_exceed_the_patches(self, pipeline):
        """The released models' 200 tokens are more than the small model's 64 patches."""
        (ids,) = pipeline("a dog", num_inference_steps=1, generator=generators(0)[0]).image_token_ids
        assert 20 < len(ids) <= 65

    def test_generators_in_a_tuple(self, pipeline):
        expected = pipeline(["a dog", "a cat"], generator=generators(1, 2), output_type="pt", **FAST).images
        images = pipeline(["a dog", "a cat"], generator=tuple(generators(1, 2)), output_type="pt", **FAST).images
        assert torch.equal(images, expected)

    def test_generators_of_stages_in_a_tuple(self, pipeline, images):
        settings = {"num_inference_steps": 2, "eta": 0.5, "output_type": "pt"}
        expected = pipeline.reconstruct(images[:2], generator=generators(1, 2), **settings).images
        pictures = pipeline.reconstruct(images[:2], generator=tuple(generators(1, 2)), **settings).images
        assert torch.equal(pictures, expected)

    def test_wide_and_tall(self, pipeline):
        outputs = pipeline("a dog", aspect_ratio="16:9", **FAST)
        assert outputs.images[0].size == (80, 48)
        assert pipeline("a dog", height=40, width=72, **FAST).images[0].size == (72, 40)

    @pytest.mark.parametrize("name, size", ASPECT_RATIOS.items())
    def test_aspect_ratios(self, name, size):
        assert resolve_size(1024, 8, aspect_ratio=name) == size
        assert resolve_size(512, 8, aspect_ratio=name) == (size[0] // 2, size[1] // 2)


class TestReproducible:
    def test_one_generator(self, pipeline, images):
        prompts = ["<image> again", "a red apple"]
        first, again, other = (
            pipeline(prompts, images=images[0], generator=generator, output_type="pt", **FAST)
            for generator in generators(3, 3, 4)
        )
        assert same_ids(first.image_token_ids, again.image_token_ids)
        assert torch.equal(first.images, again.images)
        assert not same_ids(first.image_token_ids, other.image_token_ids)
        assert not torch.equal(first.images, other.images)

    def test_pictures_of_a_prompt_differ(self, pipeline):
        outputs = pipeline("a dog", num_images_per_prompt=2, generator=generators(0)[0], output_type="pt", **FAST)
        assert not same_ids(outputs.image_token_ids[:1], outputs.image_token_ids[1:])

    def test_list_makes_a_picture_depend_on_its_own_generator_only(self, pipeline, images):
        prompts = ["a dog", "<image> with a long prompt behind it"]
        both = pipeline(prompts, images=images[0], generator=generators(1, 2), output_type="pt", **FAST)
        alone = pipeline(prompts[1], images=images[0], generator=generators(2), output_type="pt", **FAST)
        assert same_ids(both.image_token_ids[1:], alone.image_token_ids)
        torch.testing.assert_close(both.images[1:], alone.images, rtol=0, atol=1e-4)

    def test_global_random_state_is_left_alone(self, pipeline, images):
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        pipeline("<image>", images=images[0], generator=generators(1)[0], **FAST)
        pipeline.reconstruct(images[0], generator=generators(1), num_inference_steps=1)
        assert torch.equal(torch.rand(1), expected)

    def test_without_a_generator_the_global_seed_counts(self, pipeline):
        torch.manual_seed(5)
        first = pipeline("a dog", output_type="pt", **FAST)
        torch.manual_seed(5)
        again = pipeline("a dog", output_type="pt", **FAST)
        assert torch.equal(first.images, again.images)


class TestImageTokens:
    def test_special_tokens_are_passed_over(self, pipeline, image_token_ids):
        latents = pipeline.prepare_latents(1, 64, 64, generators(0)[0])
        codes = image_token_ids[0][1:-1]
        variants = [
            codes,
            image_token_ids[0],
            torch.cat([torch.tensor([0, 0, IMG]), codes]),
            torch.cat([codes, torch.tensor([END, 0, 0, 1, 2])]),
            codes.tolist(),
        ]
        pictures = [
            pipeline(image_token_ids=[ids], latents=latents, num_inference_steps=1, output_type="pt").images
            for ids in variants
        ]
        assert all(torch.equal(picture, pictures[0]) for picture in pictures)

    def test_output_of_generate_is_taken_as_it_is(self, pipeline, images):
        inputs = pipeline.processor(
            text=["a dog", "<image> and more words", "words and <image>"], images=images[:2], generation_mode="image"
        )
        kwargs = {"do_sample": False, **FAST["generation_kwargs"]}
        sequences = pipeline.language_model.generate(
            **inputs, generation_mode="image", generator=generators(0)[0], **kwargs
        )
        new = sequences[:, inputs.input_ids.shape[1] :]
        tokenizer = pipeline.processor.tokenizer
        for sequence, ids in zip(sequences, new):
            assert torch.equal(find_codes(sequence, tokenizer, 512), find_codes(ids, tokenizer, 512))

    def test_reconstruct_several_pictures_of_an_image(self, pipeline, images):
        generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
        outputs = pipeline.reconstruct(images[:2], generators, num_images_per_prompt=2, num_inference_steps=1)
        assert len(outputs.images) == 4

    def test_marks_that_slip_through_are_left_out(self, pipeline, monkeypatch):
        written = torch.tensor([[264, IMG, CODE + 1, IMG, CODE + 2, END, 0]])
        monkeypatch.setattr(pipeline.language_model, "generate", lambda *args, **kwargs: written)
        monkeypatch.setattr(
            "lavit_hf.pixels.image_tokens.collate_prompts", lambda *args: {"input_ids": torch.tensor([[264, IMG]])}
        )
        assert pipeline.generate_image_tokens("a")[0].tolist() == [IMG, CODE + 1, CODE + 2, END]

    @pytest.mark.parametrize("name", ["generation_config", "max_length", "num_return_sequences"])
    def test_settings_that_the_pipeline_decides(self, pipeline, name):
        with pytest.raises(ValueError, match=f"generation_kwargs cannot hold {name}"):
            pipeline("a dog", generation_kwargs={name: 2})

    @pytest.mark.parametrize(
        ("ids", "codes"),
        [
            ([CODE + 3, CODE + 4], [3, 4]),
            ([IMG, CODE + 3, END], [3]),
            ([IMG, CODE + 1, END, IMG, CODE + 3], [3]),  # an image in the prompt
            ([CODE + 1, 264, IMG, CODE + 3, END, 0, 0], [3]),  # bare codes and words in the prompt, padding behind
            ([IMG, CODE + 3, END, CODE + 4], [3]),  # nothing counts behind the end
        ],
    )
    def test_the_last_image_is_meant(self, pipeline, ids, codes):
        assert find_codes(torch.tensor(ids), pipeline.processor.tokenizer, 512).tolist() == codes

    def test_output_of_get_image_tokens_is_taken_as_it_is(self, pipeline, golden, image_token_ids):
        keep_mask = golden.tensors["tokenizer.keep_mask"]
        tokens = pipeline.language_model.get_image_tokens(golden.tensors["pixel_values"], keep_mask)
        assert same_ids(tokens, image_token_ids)
        outputs = pipeline(image_token_ids=tokens, num_images_per_prompt=2, num_inference_steps=1)
        assert len(outputs.images) == 2 * len(tokens)
        assert same_ids(outputs.image_token_ids[::2], tokens)

    def test_no_language_model_is_needed_or_read(self, pipelines, repos, image_token_ids, tmp_path):
        repo = shutil.copytree(repos["lowres"], tmp_path / "repo")
        with open(repo / "language_model" / "config.json", "w") as file:
            file.write("not to be read")
        decoder = LaVITPipeline.from_pretrained(repo, language_model=None, dtype=torch.float32)
        assert decoder.language_model is None
        arguments = {"image_token_ids": image_token_ids, "num_inference_steps": 1, "output_type": "latent"}
        pictures = decoder(**arguments, generator=generators(0)[0]).images
        assert torch.equal(pictures, pipelines["lowres"](**arguments, generator=generators(0)[0]).images)

    def test_latents_go_in_and_out(self, pipeline, image_token_ids):
        arguments = {"image_token_ids": image_token_ids[:2], "num_inference_steps": 2}
        latents = pipeline.prepare_latents(2, 64, 64, generators(0)[0])
        drawn = pipeline(**arguments, generator=generators(0)[0], output_type="pt").images
        given = pipeline(**arguments, latents=latents, output_type="latent").images
        assert torch.equal(pipeline.decode_latents(given), drawn)


class TestReconstruct:
    def test_image_to_tokens_to_image(self, pipeline, images):
        outputs = pipeline.reconstruct(images[:2], generator=generators(0)[0], num_inference_steps=2)
        assert [picture.size for picture in outputs.images] == [(64, 64)] * 2
        tokens = pipeline.tokenize_images(images[:2], generators(0)[0])
        assert same_ids(outputs.image_token_ids, tokens)

    def test_one_image_and_generators(self, pipeline, images):
        one = pipeline.reconstruct(images[1], generator=generators(7), num_inference_steps=1)
        two = pipeline.reconstruct(images[:2], generator=generators(6, 7), num_inference_steps=1)
        assert same_ids(one.image_token_ids, two.image_token_ids[1:])


class TestCandidates:
    def test_the_most_faithful_is_kept(self, pipeline, image_token_ids):
        """The best of three is one of the three, and none is more like what it was painted from."""
        ids = image_token_ids[:2]
        noise = pipeline.prepare_latents(6, 64, 64, generators(0)[0])
        settings = {"num_inference_steps": 2, "output_type": "latent", "latents": noise}
        kept = pipeline(image_token_ids=ids, num_candidates=3, **settings).images
        painted = pipeline(image_token_ids=ids, num_images_per_prompt=3, **settings).images
        for picture, candidates, picture_ids in zip(kept, painted.chunk(2), ids):
            likeness = torch.stack([self.likeness(pipeline, candidate, picture_ids) for candidate in candidates])
            torch.testing.assert_close(picture, candidates[likeness.argmax()], rtol=0, atol=1e-3)
            assert likeness.unique().numel() == 3

    def likeness(self, pipeline, latents, ids):
        """From images and codes anew, through the models themselves."""
        pictures = pipeline.image_processor.numpy_to_pil(
            pipeline.image_processor.pt_to_numpy(pipeline.decode_latents(latents[None]))
        )
        pixel_values = pipeline.processor.image_processor(pictures, return_tensors="pt").pixel_values
        with torch.no_grad():
            read = pipeline.language_model.visual_tokenizer.encode(pixel_values).last_hidden_state
            rebuilt = pipeline.detokenizer(codes=[ids[ids >= CODE] - CODE]).features
        return torch.nn.functional.cosine_similarity(read, rebuilt, dim=-1).mean()

    def test_each_picture_draws_from_its_own_generator(self, pipeline, image_token_ids):
        settings = {"num_inference_steps": 1, "num_candidates": 2, "output_type": "pt"}
        ids = image_token_ids[:2]
        two = pipeline(image_token_ids=ids, generator=generators(6, 7), **settings).images
        one = pipeline(image_token_ids=ids[1:], generator=generators(7), **settings).images
        torch.testing.assert_close(two[1:], one, rtol=0, atol=1e-4)

    def test_pictures_of_texts(self, pipeline):
        outputs = pipeline(["a dog", "a cat"], num_candidates=2, **FAST)
        assert len(outputs.images) == len(outputs.image_token_ids) == 2


class TestSafety:
    def test_flagged_pictures_are_black_and_reported(self, pipelines, golden, image_token_ids):
        pipeline = pipelines["lowres"]
        arguments = TestParity().arguments(golden, "lowres")
        for output_type in ("pil", "np"):
            outputs = pipeline(**arguments, output_type=output_type)
            assert outputs.nsfw_content_detected == golden.facts["lowres"]["nsfw_flags"]
            for picture, flagged in zip(outputs.images, outputs.nsfw_content_detected):
                assert (np.asarray(picture).max() == 0) == flagged

    def test_check_leaves_its_input_alone(self, pipelines, golden):
        pictures = golden.tensors["lowres.image"].clone()
        checked, flags = pipelines["lowres"].check_safety(pictures)
        assert torch.equal(pictures, golden.tensors["lowres.image"])
        assert flags == golden.facts["lowres"]["nsfw_flags"]
        assert not checked[flags].any() and torch.equal(checked[1], pictures[1])

    def test_checker_needs_its_feature_extractor(self, pipelines):
        components = {**pipelines["lowres"].components, "feature_extractor": None}
        with pytest.raises(ValueError, match="needs a feature_extractor"):
            LaVITPipeline(**components)


class TestBadInput:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({}, "exactly one of a prompt"),
            ({"prompt": "a dog", "image_token_ids": [torch.tensor([CODE])]}, "exactly one of a prompt"),
            ({"prompt": "a dog", "prompt_embeds": torch.zeros(1)}, "exactly one of a prompt"),
            ({"image_token_ids": [torch.tensor([CODE])], "prompt_embeds": torch.zeros(1)}, "exactly one of a prompt"),
            ({"image_token_ids": [torch.tensor([CODE])], "negative_prompt": "a cat"}, "negative_prompt guides"),
            ({"prompt_embeds": torch.zeros(1), "negative_prompt": "a cat"}, "negative_prompt guides"),
            ({"image_token_ids": []}, "image_token_ids is empty"),
            ({"image_token_ids": [torch.tensor([CODE]), torch.tensor([IMG, END])]}, r"\[1\]: the ids contain no code"),
            ({"image_token_ids": [torch.tensor([], dtype=torch.long)]}, r"\[0\]: the ids contain no code"),
            ({"image_token_ids": [torch.tensor([IMG, CODE + 512])]}, "32002 to 32513"),
            ({"image_token_ids": [torch.tensor([IMG, 5, CODE])]}, "id 5 is not an image token"),
            ({"image_token_ids": [torch.tensor([-1, CODE])]}, "id -1 is not an image token"),
            ({"image_token_ids": [torch.tensor([[CODE]])]}, "1-D tensor"),
            ({"image_token_ids": [torch.tensor([0.5])]}, "tensor of integers"),
            ({"prompt": "a dog", "height": 500}, "height must be a positive multiple of 8"),
            ({"prompt": "a dog", "width": 0}, "width must be a positive multiple of 8"),
            ({"prompt": "a dog", "width": -8}, "Use 8"),
            ({"prompt": "a dog", "aspect_ratio": "5:4"}, "Choose one of 1:1, 4:3"),
            ({"prompt": "a dog", "aspect_ratio": "4:3", "height": 64}, "either aspect_ratio or height"),
            ({"prompt": "a dog", "num_inference_steps": 0}, "num_inference_steps must be at least 1"),
            ({"prompt": "a dog", "num_inference_steps": 2.5}, "num_inference_steps must be an integer, got 2.5"),
            ({"prompt": "a dog", "height": 64.0}, "height must be an integer, got 64.0"),
            ({"prompt": "a dog", "guidance_scale": "4"}, "guidance_scale must be a number, got '4'"),
            ({"prompt": "a dog", "guidance_scale": float("nan")}, "guidance_scale must be a number, got nan"),
            ({"prompt": "a dog", "llm_guidance_scale": "4"}, r"guidance_scale must be 1 \(no guidance\) or more"),
            ({"prompt": "a dog", "llm_guidance_scale": float("inf")}, r"guidance_scale must be 1 \(no guidance\)"),
            ({"prompt": "a dog", "eta": "0"}, "eta must lie between 0 and 1, got '0'"),
            ({"prompt": "a dog", "num_images_per_prompt": "2"}, "num_images_per_prompt must be an integer, got '2'"),
            ({"prompt": "a dog", "num_candidates": 1.5}, "num_candidates must be an integer, got 1.5"),
            ({"prompt": "a dog", "generator": 3}, r"generator must be a torch\.Generator, or a list"),
            ({"prompt": "a dog", "timesteps": []}, "timesteps is empty"),
            ({"prompt": "a dog", "sigmas": []}, "sigmas is empty"),
            ({"prompt": "a dog", "timesteps": [1], "sigmas": [1.0]}, "Only one of `timesteps` or `sigmas`"),
            ({"prompt": "a dog", "timesteps": [1]}, "does not support custom timestep"),
            ({"prompt": "a dog", "sigmas": [1.0]}, "does not support custom sigmas"),
            ({"prompt": "a dog", "guidance_rescale": 1.5}, "guidance_rescale must lie between 0 and 1, got 1.5"),
            ({"prompt": "a dog", "guidance_rescale": float("nan")}, "guidance_rescale must lie between 0 and 1"),
            ({"prompt": "a dog", "eta": -0.1}, "eta must lie between 0 and 1, got -0.1"),
            ({"prompt": "a dog", "eta": 2}, "eta must lie between 0 and 1, got 2"),
            ({"prompt": "a dog", "num_images_per_prompt": 0}, "num_images_per_prompt must be at least 1"),
            ({"prompt": "a dog", "num_candidates": 0}, "num_candidates must be at least 1"),
            ({"prompt": "a dog", "output_type": "jpg"}, "unknown output_type 'jpg'"),
            ({"prompt": "a dog", "generator": generators(1, 2)}, "2 generators for 1 images"),
            (
                {"image_token_ids": [torch.tensor([CODE])], "generator": generators(1, 2)},
                "2 generators for 1 images",
            ),
            (
                {"image_token_ids": [torch.tensor([CODE])], "generator": generators(1, 2), "num_candidates": 2},
                "2 generators for 1 images",
            ),
            ({"prompt": ["a", "b"], "negative_prompt": ["c"]}, "1 negative prompts for 2 prompts"),
            ({"image_token_ids": [torch.tensor([CODE])], "latents": torch.zeros(1, 4, 9, 9)}, r"\(1, 4, 8, 8\)"),
            (
                {"prompt": "a dog", "callback_on_step_end_tensor_inputs": ["noise"]},
                "contains noise. Choose from latents",
            ),
            ({"prompt": "<image>"}, "Prompt 0 has 0 images"),
            ({"prompt": "a dog", "generation_kwargs": {"max_new_tokens": 65}}, "at most 64 codes"),
            ({"image_token_ids": [torch.arange(CODE, CODE + 65)]}, "image 0 has 65 codes"),
        ],
    )
    def test_one_clear_error(self, pipeline, arguments, message):
        with pytest.raises(ValueError, match=message):
            pipeline(**arguments)

    def test_no_language_model(self, repos, images):
        decoder = LaVITPipeline.from_pretrained(repos["highres"], language_model=None)
        with pytest.raises(ValueError, match="no language model to write images"):
            decoder("a dog")
        with pytest.raises(ValueError, match="no language model to turn images into tokens"):
            decoder.reconstruct(images)
        with pytest.raises(ValueError, match="num_candidates needs a language model"):
            decoder(image_token_ids=[torch.tensor([CODE])], num_candidates=2)

    def test_repo_without_pixel_decoder(self, converted):
        with pytest.raises(OSError, match="has no pixel decoder"):
            LaVITPipeline.from_pretrained(converted)

    def test_no_codebook(self, repos, image_token_ids, tmp_path):
        repo = shutil.copytree(repos["highres"], tmp_path / "repo", ignore=shutil.ignore_patterns("*index.json"))
        shutil.copy(repos["highres"] / "model_index.json", repo)
        decoder = LaVITPipeline.from_pretrained(repo, language_model=None)
        with pytest.raises(ValueError, match="no codebook"):
            decoder(image_token_ids=image_token_ids)


class TestSettings:
    """Guidance that a checkpoint, or a caller, has set stays with its components."""

    def test_of_a_pipeline_of_the_same_components(self, pipeline):
        first = LaVITPipeline(**pipeline.components, default_guidance_scale=3.5)
        assert LaVITPipeline(**first.components).config.default_guidance_scale == 3.5
        assert LaVITPipeline(**LaVITPipeline(**first.components).components).config.default_guidance_scale == 3.5
        assert LaVITPipeline(**first.components, default_guidance_scale=2.0).config.default_guidance_scale == 2.0
        assert LaVITPipeline(**first.components).config.default_guidance_scale == 3.5
        assert LaVITPipeline(**pipeline.components).config.default_guidance_scale == 7.0
        assert LaVITPipeline.from_pipe(first).config.default_guidance_scale == 3.5
        assert first.components.keys() == pipeline.components.keys()

    def test_of_copies(self, pipeline):
        first = LaVITPipeline(**pipeline.components, default_guidance_scale=3.5)
        assert LaVITPipeline(**copy.deepcopy(first.components)).config.default_guidance_scale == 3.5

    def test_where_one_component_is_another(self, pipeline):
        first = LaVITPipeline(**pipeline.components, default_guidance_scale=3.5)
        parts = first.components | {"scheduler": UniPCMultistepScheduler.from_config(first.scheduler.config)}
        assert LaVITPipeline(**parts).config.default_guidance_scale == 3.5

    def test_steps(self, pipeline, image_token_ids):
        done = []

        def count(pipeline, step, timestep, tensors):
            done.append(step)
            return tensors

        few = LaVITPipeline(**pipeline.components, default_num_inference_steps=3)
        few(image_token_ids=image_token_ids, callback_on_step_end=count, output_type="latent")
        assert done == [0, 1, 2]
        done.clear()
        few(image_token_ids=image_token_ids, num_inference_steps=2, callback_on_step_end=count, output_type="latent")
        assert done == [0, 1]
        assert LaVITPipeline(**few.components).config.default_num_inference_steps == 3
        assert pipeline.config.default_num_inference_steps == 25

    def test_saved_and_loaded(self, pipeline, tmp_path):
        first = LaVITPipeline(**pipeline.components, default_guidance_scale=3.5)
        LaVITPipeline(**first.components).save_pretrained(tmp_path)
        loaded = LaVITPipeline.from_pretrained(tmp_path)
        assert loaded.config.default_guidance_scale == 3.5
        index = json.loads((tmp_path / "model_index.json").read_text())
        index.pop("default_guidance_scale")
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        assert LaVITPipeline.from_pretrained(tmp_path).config.default_guidance_scale == 7.0


class TestRepo:
    def test_every_tensor_is_stored_once(self, repos):
        for repo in repos.values():
            shapes = []
            for path in repo.rglob("*.safetensors"):
                with safe_open(path, framework="pt") as weights:
                    shapes += [(name, tuple(weights.get_slice(name).get_shape())) for name in weights.keys()]  # noqa: SIM118
            names = [name for name, _ in shapes if "codebook" in name or "embed_tokens" in name]
            assert sorted(names) == [
                "language_model.model.embed_tokens.weight",
                "visual_tokenizer.quantizer.codebook.weight",
            ]
            weights = sum(path.stat().st_size for path in repo.rglob("*.safetensors"))
            files = sum(path.stat().st_size for path in repo.rglob("*") if path.suffix in (".bin", ".pt"))
            assert weights > 0 and files == 0

    def test_serves_transformers(self, repos, converted):
        for repo in repos.values():
            plain = AutoModel.from_pretrained(converted)
            for loaded in (AutoModelForMultimodalLM.from_pretrained(repo), LaVITForCausalLM.from_pretrained(repo)):
                weights = loaded.state_dict()
                assert all(torch.equal(weights[name], tensor) for name, tensor in plain.state_dict().items())
                assert loaded.generation_config.to_dict() == plain.generation_config.to_dict()
            assert isinstance(AutoProcessor.from_pretrained(repo), LaVITProcessor)
            codebook = LaVITVisualTokenizer.from_pretrained(repo).quantizer.codebook.weight
            assert torch.equal(codebook, plain.visual_tokenizer.quantizer.codebook.weight)

    @pytest.mark.slow
    def test_serves_diffusers(self, repos, pipelines, image_token_ids):
        repo = str(repos["lowres"])
        arguments = {"image_token_ids": image_token_ids[:1], "num_inference_steps": 1, "output_type": "pt"}
        expected = pipelines["lowres"](**arguments, generator=generators(0)[0]).images
        for custom_pipeline in ("pipeline", repo):
            loaded = DiffusionPipeline.from_pretrained(
                repo, custom_pipeline=custom_pipeline, trust_remote_code=True, dtype=torch.float32, language_model=None
            )
            assert type(loaded) is LaVITPipeline and loaded.language_model is None
            assert torch.equal(loaded(**arguments, generator=generators(0)[0]).images, expected)
        whole = DiffusionPipeline.from_pretrained(repo, custom_pipeline="pipeline", trust_remote_code=True)
        assert isinstance(whole.language_model, LaVITForCausalLM)

    @pytest.mark.slow
    def test_shards(self, golden, repos, tmp_path):
        repo = convert_checkpoint(
            golden.original, tmp_path / "repo", HEADS, max_shard_size="500KB", pixel_decoder="highres"
        )
        assert len(list((repo / "unet").glob("diffusion_pytorch_model-*.safetensors"))) > 1
        assert len(list((repo / "language_model").glob("model-*.safetensors"))) > 1
        sharded, whole = LaVITPipeline.from_pretrained(repo), LaVITPipeline.from_pretrained(repos["highres"])
        for name in ("language_model", "detokenizer", "unet", "vae"):
            weights = getattr(sharded, name).state_dict()
            assert all(torch.equal(weights[key], tensor) for key, tensor in getattr(whole, name).state_dict().items())
        assert AutoModel.from_pretrained(repo) is not None

    @pytest.mark.slow
    def test_dtype(self, golden, repos, tmp_path):
        def dtypes(repo):
            found = set()
            for path in repo.rglob("*.safetensors"):
                with safe_open(path, framework="pt") as weights:
                    found |= {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
            return found

        assert dtypes(repos["lowres"]) == {"F16"}
        cast = convert_checkpoint(
            golden.original, tmp_path / "cast", HEADS, dtype=torch.bfloat16, pixel_decoder="lowres"
        )
        assert dtypes(cast) == {"BF16"}
        assert LaVITPipeline.from_pretrained(cast).safety_checker.dtype == torch.bfloat16

    @pytest.mark.parametrize("resolution", PIXEL_DECODERS)
    def test_pipeline_saves_what_the_converter_writes(self, repos, pipelines, tmp_path, resolution):
        pipelines[resolution].save_pretrained(tmp_path, include_code=True)
        written, saved = (
            {path.relative_to(repo).as_posix() for path in repo.rglob("*") if path.is_file()} - {"README.md"}
            for repo in (repos[resolution], tmp_path)
        )
        assert saved == written
        for name in ("model_index.json", "model.safetensors.index.json", "visual_tokenizer.safetensors.index.json"):
            first, second = (json.loads((repo / name).read_text()) for repo in (repos[resolution], tmp_path))
            first.pop("_name_or_path", None), second.pop("_name_or_path", None)
            assert first == second, name

    def test_pipeline_without_language_model_keeps_the_codebook(self, repos, image_token_ids, tmp_path):
        decoder = LaVITPipeline.from_pretrained(repos["highres"], language_model=None)
        decoder.save_pretrained(tmp_path)
        assert not (tmp_path / "language_model").exists()
        again = LaVITPipeline.from_pretrained(tmp_path)
        assert again.language_model is None
        assert torch.equal(again.detokenizer.codebook, decoder.detokenizer.codebook)


@pytest.fixture(scope="module")
def with_variant(hub, repos, tmp_path_factory):
    """The folder and the id of a repo with a variant of every component but the VAE, in several files."""
    folder = shutil.copytree(repos["lowres"], tmp_path_factory.mktemp("variants") / "repo")
    pipeline = LaVITPipeline.from_pretrained(folder)
    with torch.no_grad():
        pipeline.unet.conv_in.bias.fill_(7)
        pipeline.language_model.get_input_embeddings().weight.fill_(7)
    pipeline.save_pretrained(folder, variant="fp16", max_shard_size="300KB")
    for path in (folder / "vae").glob("*fp16*"):
        path.unlink()
    return folder, publish(hub, "org/variants", folder)


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def weights_among(files):
    """The components' weights and the indices of their shards."""
    return {file for file in files if re.search(r"/(diffusion_pytorch_)?model[.-]", file)}


class TestDownload:
    """Out of a Hub, over HTTP."""

    def expected(self, folder, variant=None, without=()):
        """Of each component the variant where there is one, and what has none where there is not."""
        components = {}
        for file in weights_among(files_of(folder)):
            components.setdefault(file.split("/")[0], {True: set(), False: set()})["fp16" in file].add(file)
        return set().union(
            *(
                files[variant is not None and bool(files[True])]
                for component, files in components.items()
                if component not in without
            )
        )

    def got(self, hub, repo):
        """What was sent, each file once."""
        files = [request.file for request in hub.downloads(repo)]
        assert len(files) == len(set(files))
        return weights_among(files)

    @pytest.mark.parametrize("variant", [None, "fp16"])
    def test_one_variant(self, reader, with_variant, variant):
        folder, repo = with_variant
        pipeline = LaVITPipeline.from_pretrained(repo, variant=variant)
        got = self.got(reader, repo)
        assert got == self.expected(folder, variant)
        assert "vae/diffusion_pytorch_model.safetensors" in got
        assert ("unet/diffusion_pytorch_model.safetensors" in got) == (variant is None)
        assert any("unet/diffusion_pytorch_model.fp16-00002" in file for file in got) == (variant == "fp16")
        assert (pipeline.unet.conv_in.bias == 7).all() == (variant == "fp16")
        assert (pipeline.language_model.get_input_embeddings().weight == 7).all() == (variant == "fp16")

    def test_everything_but_weights_comes_along(self, reader, with_variant):
        folder, repo = with_variant
        local = LaVITPipeline.download(repo, variant="fp16")
        assert files_of(local) == files_of(folder) - (self.expected(folder) - self.expected(folder, "fp16"))

    @pytest.mark.parametrize("variant", [None, "fp16"])
    def test_without_the_language_model_but_with_its_codebook(self, reader, with_variant, variant):
        folder, repo = with_variant
        decoder = LaVITPipeline.from_pretrained(repo, variant=variant, language_model=None)
        index = json.loads((folder / "visual_tokenizer.safetensors.index.json").read_text())["weight_map"]
        codebook_file = index["visual_tokenizer.quantizer.codebook.weight"]
        expected = self.expected(folder, variant, without=["language_model"]) | {codebook_file}
        assert self.got(reader, repo) == expected
        whole = LaVITPipeline.from_pretrained(folder)
        assert torch.equal(decoder.detokenizer.codebook, whole.detokenizer.codebook)

    def test_without_components_that_are_passed(self, reader, with_variant, pipelines):
        folder, repo = with_variant
        unet = pipelines["lowres"].unet
        pipeline = LaVITPipeline.from_pretrained(repo, unet=unet, safety_checker=None)
        assert self.got(reader, repo) == self.expected(folder, without=["unet", "safety_checker"])
        assert pipeline.unet is unet and pipeline.safety_checker is None

    def test_a_repo_of_a_variant_alone(self, owner, pipelines):
        pipelines["lowres"].push_to_hub("org/variant-alone", variant="fp16")
        decoder = LaVITPipeline.from_pretrained("org/variant-alone", variant="fp16", language_model=None)
        assert "language_model/model.fp16.safetensors" in self.got(owner, "org/variant-alone")
        assert torch.equal(decoder.detokenizer.codebook, pipelines["lowres"].detokenizer.codebook)

    def test_without_what_an_interrupted_save_has_left(self, reader, repos, tmp_path):
        repo = shutil.copytree(repos["lowres"], tmp_path / "repo")
        shutil.copytree(repo / "unet", repo / SAVE_FOLDER / "new" / "unet")
        folder = Path(LaVITPipeline.download(publish(reader, "org/interrupted", repo)))
        assert files_of(folder) == files_of(repos["lowres"])

    def test_no_such_variant(self, reader, with_variant):
        _, repo = with_variant
        with pytest.raises(ValueError, match="`variant=bf16`, but no such modeling files are available"):
            LaVITPipeline.from_pretrained(repo, variant="bf16")
        assert not self.got(reader, repo)

    def test_from_the_cache(self, reader, with_variant, monkeypatch):
        _, repo = with_variant
        local = LaVITPipeline.download(repo, variant="fp16")
        with reader.unplugged():
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
            assert LaVITPipeline.download(repo, variant="fp16") == local
            assert LaVITPipeline.download(repo, variant="fp16", local_files_only=True) == local
            pipeline = LaVITPipeline.from_pretrained(repo, variant="fp16")
            assert (pipeline.unet.conv_in.bias == 7).all()
            with pytest.raises(OSError, match="cannot find the requested files in the local cache"):
                LaVITPipeline.download(repo)
            shutil.rmtree(Path(local).parents[1] / "trees")  # the cache of an older client
            assert LaVITPipeline.download(repo, variant="fp16") == local


class TestConversion:
    @pytest.fixture
    def original(self, golden, tmp_path):
        return shutil.copytree(golden.original, tmp_path / "original")

    def refused(self, original, message, pixel_decoder="lowres", error=ConversionError):
        with pytest.raises(error, match=message):
            convert_checkpoint(original, original.parent / "repo", HEADS, pixel_decoder=pixel_decoder)
        assert sorted(os.listdir(original.parent)) == ["original"], "something half-written stays"

    @pytest.mark.parametrize("resolution", PIXEL_DECODERS)
    def test_full_size_detokenizer_maps_completely(self, golden, resolution):
        files = PIXEL_DECODERS[resolution].detokenizer
        layout = json.loads((golden.root / "layout_7b.json").read_text())[files.path]
        plan = plan_file(files, {name: torch.empty(shape, device="meta") for name, shape in layout.items()})
        config = infer_detokenizer_config({name: make() for name, make in plan.items()}, 16)
        with torch.device("meta"):
            PlannedModel(LaVITDetokenizer(config), plan, "model.safetensors")
        assert (config.num_patches, config.hidden_size, config.num_hidden_layers) == (256, 1408, 12)
        if resolution == "highres":
            assert list(config.cross_attention_dims) == [768, 1280] and config.pooled_projection_dim == 1280
        else:
            assert list(config.cross_attention_dims) == [768] and config.pooled_projection_dim is None

    def test_old_names_of_the_diffusion_models(self, original, repos):
        """What diffusers and transformers renamed since: attention in the VAE, and a buffer of CLIP."""
        path = original / "pixel_decoding" / "vae" / "diffusion_pytorch_model.bin"
        new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        weights = torch.load(path, weights_only=True)
        for name in [name for name in weights if ".attentions." in name and "group_norm" not in name]:
            stem, leaf = name.rsplit(".", 1)
            block, old = next((stem.removesuffix(f".{key}"), key) for key in new if stem.endswith(f".{key}"))
            weights[f"{block}.{new[old]}.{leaf}"] = weights.pop(name)
        torch.save(weights, path)
        path = original / "pixel_decoding" / "safety_checker" / "pytorch_model.bin"
        weights = torch.load(path, weights_only=True)
        weights["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        torch.save(weights, path)
        repo = convert_checkpoint(original, original.parent / "repo", HEADS, pixel_decoder="lowres")
        for file in ("vae/diffusion_pytorch_model.safetensors", "safety_checker/model.safetensors"):
            assert (repo / file).read_bytes() == (repos["lowres"] / file).read_bytes()

    @pytest.mark.parametrize(
        "path",
        [
            "visual_tokenizer/tokenizer_decoder.bin",
            "pixel_decoding/uncond_embeddings.bin",
            "pixel_decoding/unet",
            "pixel_decoding/vae/config.json",
            "pixel_decoding/scheduler",
            "pixel_decoding/safety_checker/pytorch_model.bin",
            "pixel_decoding/feature_extractor/preprocessor_config.json",
        ],
    )
    def test_missing_parts(self, original, path):
        path = original / path
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.refused(original, "is missing|has no weights")

    def test_other_resolution_is_not_needed(self, original):
        shutil.rmtree(original / "pixel_decoding")
        (original / "visual_tokenizer" / "tokenizer_decoder.bin").unlink()
        assert convert_checkpoint(original, original.parent / "repo", HEADS, pixel_decoder="highres").is_dir()

    def test_negative_rows_of_something_else(self, original):
        torch.save({"rows": torch.zeros(2)}, original / "pixel_decoding" / "uncond_embeddings.bin")
        self.refused(original, "does not hold a tensor")

    def test_unet_of_something_else(self, original):
        source, target = original / "highres_pixel_decoding", original / "pixel_decoding"
        shutil.copy(source / "unet" / "diffusion_pytorch_model.bin", target / "unet")
        self.refused(original, "do not match the model")

    def test_unknown_pixel_decoder(self, original):
        self.refused(original, "Choose one of none, highres, lowres", pixel_decoder="midres", error=ValueError)

    def test_card_tells_how_to_make_pictures(self, repos, converted):
        assert "LaVITPipeline.from_pretrained" in (repos["lowres"] / "README.md").read_text()
        assert "LaVITPipeline" not in (converted / "README.md").read_text()

    def test_interruption_leaves_nothing(self, original, monkeypatch):
        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("lavit_hf.pixels.pipeline_lavit.write_top_files", interrupt)
        self.refused(original, None, error=KeyboardInterrupt)

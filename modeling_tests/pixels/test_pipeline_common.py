# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What diffusers expects of every pipeline, on a tiny one of each form."""

import contextlib
import inspect
import io
import json
import re
import shutil

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
from accelerate import cpu_offload
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback
from diffusers.models.attention_processor import Attention, AttnProcessor, FusedAttnProcessor2_0
from transformers import (
    CLIPImageProcessor,
    LogitsProcessor,
    LogitsProcessorList,
)

from lavit_hf.lavit.atomic_saving import CHANGES_NAME, SAVE_FOLDER
from lavit_hf.lavit.untrusted_files import CheckpointError
from lavit_hf.pixels.pipeline_lavit import LaVITPipeline
from lavit_hf.pixels.small.patch_autoencoder import PatchAutoencoder
from tiny_pixels import (
    CODEBOOK_DIM,
    CODEBOOK_SIZE,
    FIRST_CODE,
    NUM_PATCHES,
    tiny_detokenizer,
    tiny_language_model,
    tiny_processor,
    tiny_safety_checker,
    tiny_unet,
    tiny_vae,
)


pytestmark = pytest.mark.slow  # not each of them, but together


CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(params=["highres", "lowres"])
def pipeline(request):
    """A whole pipeline of its own for each test, always with the same weights."""
    torch.manual_seed(0)
    highres = request.param == "highres"
    pipeline = LaVITPipeline(
        language_model=tiny_language_model(),
        processor=tiny_processor(),
        detokenizer=tiny_detokenizer(highres),
        unet=tiny_unet(highres),
        vae=tiny_vae(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
        safety_checker=None if highres else tiny_safety_checker(),
        feature_extractor=None if highres else CLIPImageProcessor(size=16, crop_size=16),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def tokens(*lengths):
    return [torch.arange(FIRST_CODE, FIRST_CODE + length) for length in lengths]


def run(pipeline, **kwargs):
    """Images `(batch_size, 3, height, width)`, or latents, always from the same noise."""
    arguments = {
        "image_token_ids": tokens(5),
        "num_inference_steps": 2,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "latent",
        **kwargs,
    }
    return pipeline(**arguments)[0]


class TestCall:
    def test_signature(self):
        parameters = inspect.signature(LaVITPipeline.__call__).parameters
        expected = {
            "num_inference_steps",
            "num_images_per_prompt",
            "generator",
            "latents",
            "output_type",
            "return_dict",
        }
        assert expected <= parameters.keys()
        assert all(parameters[name].default is not inspect.Parameter.empty for name in expected)

    @pytest.mark.parametrize("num_images", [1, 3])
    def test_batches_and_num_images_per_prompt(self, pipeline, num_images):
        arguments = {"image_token_ids": None, "num_images_per_prompt": num_images}
        assert len(run(pipeline, prompt="a red apple", **arguments)) == num_images
        assert len(run(pipeline, prompt=["a dog", "a red apple"], **arguments)) == 2 * num_images
        assert len(run(pipeline, image_token_ids=tokens(2, 5), num_images_per_prompt=num_images)) == 2 * num_images

    def test_a_picture_does_not_depend_on_its_batch(self, pipeline):
        ids = tokens(2, 9, 5)
        latents = pipeline.prepare_latents(3, 16, 16, torch.Generator().manual_seed(3))
        together = run(pipeline, image_token_ids=ids, latents=latents)
        for number in range(3):
            alone = run(pipeline, image_token_ids=ids[number : number + 1], latents=latents[number : number + 1])
            torch.testing.assert_close(together[number], alone[0], **CLOSE)

    def test_tuple_and_output_class(self, pipeline):
        pipeline.safety_checker = None
        arguments = {"image_token_ids": tokens(4), "num_inference_steps": 1, "output_type": "np"}
        outputs = pipeline(**arguments, generator=torch.Generator().manual_seed(1))
        as_tuple = pipeline(**arguments, generator=torch.Generator().manual_seed(1), return_dict=False)
        assert isinstance(as_tuple, tuple) and len(as_tuple) == 3
        assert np.array_equal(outputs.images, as_tuple[0])
        assert as_tuple[1] is None and torch.equal(as_tuple[2][0], outputs.image_token_ids[0])

    def test_output_types(self, pipeline):
        pipeline.safety_checker = None
        pictures = run(pipeline, output_type="pt")
        assert pictures.shape == (1, 3, 16, 16) and 0 <= pictures.min() < pictures.max() <= 1
        as_array = run(pipeline, output_type="np")
        assert np.allclose(as_array, pictures.permute(0, 2, 3, 1).numpy())
        (picture,) = run(pipeline, output_type="pil")
        assert np.array_equal(np.asarray(picture), (as_array[0] * 255).round().astype("uint8"))
        assert run(pipeline, output_type="latent").shape == (1, 4, 8, 8)

    def test_guidance(self, pipeline):
        calls = []
        pipeline.unet.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
        free, below = run(pipeline, guidance_scale=1.0), run(pipeline, guidance_scale=0.5)
        assert calls == [1] * 4, "a step without guidance runs the negative side"
        assert torch.equal(free, below)
        guided, stronger = run(pipeline, guidance_scale=3.0), run(pipeline, guidance_scale=9.0)
        assert calls[4:] == [2] * 4
        assert not torch.allclose(free, guided) and not torch.allclose(guided, stronger)

    def test_checkpoint_keeps_its_guidance(self, pipeline, tmp_path):
        expected = run(pipeline, guidance_scale=3.0)
        pipeline.register_to_config(default_guidance_scale=3.0)
        pipeline.save_pretrained(tmp_path)
        loaded = LaVITPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        torch.testing.assert_close(run(loaded), expected, **CLOSE)
        assert LaVITPipeline.from_pipe(loaded).config.default_guidance_scale == 3.0

    def test_size_is_told_to_sdxl(self, pipeline):
        seen = []
        pipeline.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
        run(pipeline, height=16, width=24)
        if pipeline.unet.config.addition_embed_type is None:
            assert seen[0]["added_cond_kwargs"] is None
        else:
            assert seen[0]["added_cond_kwargs"]["time_ids"].tolist() == [[16, 24, 0, 0, 16, 24]] * 2

    def test_negative_side(self, pipeline):
        seen = []
        pipeline.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
        run(pipeline)
        negative, positive = seen[0]["encoder_hidden_states"]
        mask = seen[0]["encoder_attention_mask"]
        if pipeline.unet.config.addition_embed_type is None:
            assert mask.sum(dim=1).tolist() == [3, NUM_PATCHES]
            assert torch.equal(negative[:3], pipeline.detokenizer.negative_embeds[0]) and not negative[3:].any()
        else:
            assert mask is None
            assert not negative.any() and not seen[0]["added_cond_kwargs"]["text_embeds"][0].any()
        assert positive.any()


class TestCallbacks:
    def test_tensors_that_are_asked_for(self, pipeline):
        seen = []

        def callback(pipeline, step, timestep, tensors):
            seen.append((step, int(timestep), sorted(tensors)))
            return tensors

        for names in (["latents"], pipeline._callback_tensor_inputs):
            run(pipeline, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names)
            assert seen == [
                (step, int(timestep), sorted(names)) for step, timestep in enumerate(pipeline.scheduler.timesteps)
            ]
            seen.clear()

    def test_tensors_can_be_changed(self, pipeline):
        def zero_at_the_end(pipeline, step, timestep, tensors):
            last = step == pipeline.num_timesteps - 1
            return {"latents": torch.zeros_like(tensors["latents"])} if last else {}

        assert not run(pipeline, callback_on_step_end=zero_at_the_end).any()

    def test_callback_that_returns_nothing(self, pipeline):
        assert torch.equal(run(pipeline), run(pipeline, callback_on_step_end=lambda *args: None))

    def test_guidance_can_be_changed(self, pipeline):
        def increase(pipeline, step, timestep, tensors):
            pipeline._guidance_scale += 1.0
            return tensors

        run(pipeline, guidance_scale=2.0, callback_on_step_end=increase)
        assert pipeline.guidance_scale == 2.0 + pipeline.num_timesteps

    def test_interruption(self, pipeline):
        steps = []

        def interrupt(pipeline, step, timestep, tensors):
            steps.append(step)
            pipeline._interrupt = True
            return tensors

        run(pipeline, num_inference_steps=4, callback_on_step_end=interrupt)
        assert steps == [0]
        assert len(run(pipeline, num_inference_steps=2)) == 1, "the next call is still interrupted"

    def test_callbacks_of_diffusers(self, pipeline):
        highres = pipeline.unet.config.addition_embed_type is not None
        cutoff = (SDXLCFGCutoffCallback if highres else SDCFGCutoffCallback)(
            cutoff_step_ratio=None, cutoff_step_index=0
        )
        calls, masks = [], []
        pipeline.unet.register_forward_pre_hook(
            lambda module, args, kwargs: calls.append(len(args[0])) or masks.append(kwargs["encoder_attention_mask"]),
            with_kwargs=True,
        )
        run(pipeline, num_inference_steps=3, callback_on_step_end=cutoff)
        assert calls == [2, 1, 1]
        assert masks[1:] == [None, None]


class OneCodeOnly(LogitsProcessor):
    """Has an image end behind its first code."""

    def __call__(self, input_ids, scores):
        is_code = input_ids[:, -1] >= FIRST_CODE
        forced = torch.where(is_code, FIRST_CODE - 1, FIRST_CODE)
        return torch.full_like(scores, -float("inf")).scatter(1, forced[:, None], 0.0)


class TestProgressBars:
    def output(self, pipeline, **kwargs):
        with contextlib.redirect_stderr(io.StringIO()) as stderr:
            run(pipeline, **kwargs)
        return stderr.getvalue()

    def test_denoising(self, pipeline):
        pipeline.set_progress_bar_config(disable=False)
        output = self.output(pipeline, num_inference_steps=3)
        total = re.search("/(.*?) ", output).group(1)
        assert total == "3" and "3/3" in output
        assert {line.partition(":")[0] for line in re.split(r"[\r\n]+", output.strip())} == {"Denoising"}

    def test_name_of_ones_own(self, pipeline):
        pipeline.set_progress_bar_config(disable=False, desc="mine")
        assert {line.partition(":")[0] for line in self.output(pipeline).strip().split("\r")} == {"mine"}

    def test_writing(self, pipeline):
        """The bar of the language model ends full, also where `[/IMG]` comes early."""
        pipeline.set_progress_bar_config(disable=False)
        kwargs = {"logits_processor": LogitsProcessorList([OneCodeOnly()]), "min_new_tokens": 0, "max_new_tokens": 7}
        output = self.output(pipeline, image_token_ids=None, prompt=["a dog", "a red apple"], generation_kwargs=kwargs)
        assert " 7/7 " in output and " 2/2 " in output

    def test_scheduler_of_the_second_order(self, pipeline):
        pipeline.set_progress_bar_config(disable=False)
        pipeline.scheduler = diffusers.HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
        output = self.output(pipeline, num_inference_steps=3)
        assert "3/3" in output and "4/3" not in output

    def test_disabled(self, pipeline):
        assert self.output(pipeline, image_token_ids=None, prompt="a dog") == ""


class TestSchedulers:
    @pytest.mark.parametrize(
        "name, kwargs",
        [
            ("DPMSolverMultistepScheduler", {}),
            ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
            ("UniPCMultistepScheduler", {}),
            ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
            ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
            ("EulerAncestralDiscreteScheduler", {}),
            ("HeunDiscreteScheduler", {}),
            ("PNDMScheduler", {"skip_prk_steps": True}),
            ("LCMScheduler", {}),
            ("DDPMScheduler", {}),
        ],
    )
    def test_swapping(self, pipeline, name, kwargs):
        """Runs, starts from the noise level of its own steps, and depends on the generator alone."""
        original = run(pipeline, num_inference_steps=4)
        pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **kwargs)
        inputs = []
        hook = pipeline.unet.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        first = run(pipeline, num_inference_steps=4)
        hook.remove()
        assert 0.8 < inputs[0].std() < 1.2, "the U-Net sees noise of another strength than the scheduler wants"
        torch.manual_seed(99)
        assert torch.equal(first, run(pipeline, num_inference_steps=4))
        assert first.isfinite().all() and not torch.equal(first, original)


class TestPromptEmbeds:
    """The U-Net's condition itself in place of prompts and ids."""

    def embeds(self, pipeline, *lengths, negative=False):
        condition = pipeline.encode_image_tokens(tokens(*lengths))
        embeds = {"image_token_ids": None, "prompt_embeds": condition.prompt_embeds}
        if condition.pooled_prompt_embeds is not None:
            embeds["pooled_prompt_embeds"] = condition.pooled_prompt_embeds
        if negative:
            embeds["negative_prompt_embeds"] = condition.negative_prompt_embeds
            embeds["negative_prompt_attention_mask"] = condition.negative_attention_mask
            if condition.pooled_prompt_embeds is not None:
                embeds["negative_pooled_prompt_embeds"] = torch.zeros_like(condition.pooled_prompt_embeds)
        return embeds

    @pytest.mark.parametrize("negative", [False, True])
    def test_those_of_tokens_paint_what_the_tokens_do(self, pipeline, negative):
        embeds = self.embeds(pipeline, 5, 9, negative=negative)
        assert torch.equal(run(pipeline, **embeds), run(pipeline, image_token_ids=tokens(5, 9)))

    def test_no_language_model_is_needed(self, pipeline):
        embeds = self.embeds(pipeline, 5)
        expected = run(pipeline)
        pipeline.language_model = None
        outputs = pipeline(
            **embeds, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="latent"
        )
        assert torch.equal(outputs.images, expected) and outputs.image_token_ids is None

    def test_num_images_per_prompt(self, pipeline):
        noise = pipeline.prepare_latents(4, 16, 16, torch.Generator().manual_seed(0))
        arguments = {"num_images_per_prompt": 2, "latents": noise}
        twice = run(pipeline, **self.embeds(pipeline, 5, 9, negative=True), **arguments)
        torch.testing.assert_close(twice, run(pipeline, image_token_ids=tokens(5, 9), **arguments), **CLOSE)

    def test_they_can_be_mixed(self, pipeline):
        """What ids cannot say: half of one image and half of another."""
        one, other = self.embeds(pipeline, 5), self.embeds(pipeline, 9)
        half = {name: None if one[name] is None else (one[name] + other[name]) / 2 for name in one}
        pictures = run(pipeline, **one), run(pipeline, **other), run(pipeline, **half)
        assert all(not torch.allclose(pictures[2], picture, **CLOSE) for picture in pictures[:2])

    def test_guidance_leads_away_from_the_negative_side(self, pipeline):
        """Away from what it leads to is no guidance at all."""
        embeds = self.embeds(pipeline, 5)
        same = {f"negative_{name}": tensor for name, tensor in embeds.items() if tensor is not None}
        free = run(pipeline, **embeds, guidance_scale=1.0)
        torch.testing.assert_close(run(pipeline, **embeds, **same, guidance_scale=7.0), free, **CLOSE)
        assert not torch.allclose(run(pipeline, **embeds, guidance_scale=7.0), free, **CLOSE)

    def test_mask_of_the_negative_side(self, pipeline):
        """What is masked makes no difference."""
        embeds = self.embeds(pipeline, 5, negative=True)
        mask = torch.arange(NUM_PATCHES)[None] < 4
        other = embeds["negative_prompt_embeds"].clone()
        other[:, 4:] = 1
        pictures = [
            run(pipeline, **{**embeds, "negative_prompt_embeds": rows, "negative_prompt_attention_mask": rows_mask})
            for rows in (embeds["negative_prompt_embeds"], other)
            for rows_mask in (mask, mask.long(), None)
        ]
        assert torch.equal(pictures[0], pictures[1])
        torch.testing.assert_close(pictures[3], pictures[0], **CLOSE)
        assert not torch.allclose(pictures[5], pictures[0], **CLOSE)

    def test_the_callers_tensors_are_left_alone(self, pipeline):
        embeds = self.embeds(pipeline, 5, negative=True)
        before = {name: tensor.clone() for name, tensor in embeds.items() if tensor is not None}
        run(pipeline, **embeds)
        assert all(torch.equal(embeds[name], tensor) for name, tensor in before.items())

    @pytest.mark.parametrize(
        "changes, message",
        [
            (
                {"prompt_embeds": torch.zeros(1, 15, 20)},
                r"prompt_embeds must have .*\(batch_size, 16, 20\), got \(1, 15",
            ),
            ({"prompt_embeds": torch.zeros(16, 20)}, r"prompt_embeds must have shape \(batch_size, 16, 20\)"),
            ({"prompt_embeds": torch.zeros(0, 16, 20)}, r"got \(0, 16, 20\)"),
            ({"prompt_embeds": torch.tensor(1.0)}, r"got \(\)"),
            ({"prompt_embeds": [[0.0]]}, "prompt_embeds must be a tensor, got list"),
            (
                {"negative_prompt_embeds": torch.zeros(2, 16, 20)},
                r"negative_prompt_embeds .*\(1, 16, 20\), got \(2, 16",
            ),
            (
                {"negative_prompt_embeds": np.zeros((1, 16, 20))},
                "negative_prompt_embeds must be a tensor, got ndarray",
            ),
            ({"negative_prompt_attention_mask": torch.ones(1, 4)}, r"negative_prompt_attention_mask .*\(1, 16\), got"),
            (
                {"negative_prompt_embeds": None},
                "negative_prompt_attention_mask and negative_prompt_embeds belong together",
            ),
            ({"num_candidates": 2}, "num_candidates compares"),
            ({"num_images_per_prompt": 0}, "num_images_per_prompt must be at least 1"),
            ({"generator": [torch.Generator()] * 2}, "2 generators for 1 images"),
        ],
    )
    def test_bad_input(self, pipeline, changes, message):
        embeds = self.embeds(pipeline, 5, negative=True)
        embeds["negative_prompt_attention_mask"] = torch.ones(1, NUM_PATCHES, dtype=torch.bool)
        with pytest.raises(ValueError, match=message):
            run(pipeline, **{**embeds, **changes})

    def test_pooled_condition_goes_along_where_there_is_one(self, pipeline):
        embeds = self.embeds(pipeline, 5, negative=True)
        if pipeline.unet.config.addition_embed_type is None:
            with pytest.raises(ValueError, match=r"no pooled condition\. Leave pooled_prompt_embeds out"):
                run(pipeline, **embeds, pooled_prompt_embeds=torch.zeros(1, 10))
            return
        for name in ("pooled_prompt_embeds", "negative_pooled_prompt_embeds"):
            with pytest.raises(ValueError, match=f"Pass {name} along with"):
                run(pipeline, **{**embeds, name: None})
            with pytest.raises(ValueError, match=rf"{name} must have shape \(1, 10\), got \(1, 9\)"):
                run(pipeline, **{**embeds, name: torch.zeros(1, 9)})
        with pytest.raises(
            ValueError, match="negative_pooled_prompt_embeds and negative_prompt_embeds belong together"
        ):
            run(pipeline, **{**embeds, "negative_prompt_embeds": None})

    def test_parts_alone(self, pipeline):
        for name, partner in (("negative_prompt_embeds", "prompt_embeds"), ("pooled_prompt_embeds", "prompt_embeds")):
            with pytest.raises(ValueError, match=f"{name} and {partner} belong together"):
                run(pipeline, **{name: torch.zeros(1, 16, 20)})


class TestSteps:
    """Timesteps and noise levels of the caller's own."""

    def test_timesteps(self, pipeline):
        pipeline.scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
        default = run(pipeline, num_inference_steps=4)
        own = pipeline.scheduler.timesteps.tolist()
        assert torch.equal(run(pipeline, timesteps=own), default)
        seen = []
        run(pipeline, timesteps=own[1:], callback_on_step_end=lambda *args: seen.append(int(args[2])))
        assert seen == own[1:] and pipeline.num_timesteps == 3

    def test_sigmas(self, pipeline):
        pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        default = run(pipeline, num_inference_steps=4)
        own = pipeline.scheduler.sigmas.tolist()
        torch.testing.assert_close(run(pipeline, sigmas=own), default, **CLOSE)
        assert len(own) == 5 and own[-1] == 0
        assert not torch.allclose(run(pipeline, sigmas=own[::2]), default, **CLOSE)
        assert pipeline.scheduler.sigmas.tolist() == own[::2] and pipeline.num_timesteps == 2

    def test_one_sigma_is_no_step(self, pipeline):
        pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        with pytest.raises(ValueError, match="at least two sigmas"):
            run(pipeline, sigmas=[5.0])

    def test_they_are_of_one_call(self, pipeline):
        pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        default = run(pipeline)
        for steps in ({"timesteps": [801, 401, 1]}, {"sigmas": [10.0, 5.0, 1.0]}):
            assert not torch.allclose(run(pipeline, **steps), default, **CLOSE)
            assert torch.equal(run(pipeline), default)

    def test_they_replace_the_number(self, pipeline):
        pipeline.scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
        steps = [700, 300]
        assert torch.equal(
            run(pipeline, timesteps=steps, num_inference_steps=0), run(pipeline, timesteps=torch.tensor(steps))
        )

    def test_what_the_scheduler_cannot_do_is_said_before_the_language_model_writes(self, pipeline, monkeypatch):
        monkeypatch.setattr(pipeline.language_model, "generate", lambda *args, **kwargs: pytest.fail("it writes"))
        for name in ("timesteps", "sigmas"):
            with pytest.raises(ValueError, match=f"DDIMScheduler.*does not support custom {name[:-1]}"):
                run(pipeline, image_token_ids=None, prompt="a dog", **{name: [5]})
        with pytest.raises(ValueError, match="maximal 1000 timesteps"):
            run(pipeline, image_token_ids=None, prompt="a dog", num_inference_steps=1001)


class TestGuidanceRescale:
    def test_noise_gets_the_deviation_it_has_without_guidance(self, pipeline):
        given, predicted = [], []
        pipeline.unet.register_forward_hook(lambda module, args, output: predicted.append(output[0]))
        step = pipeline.scheduler.step
        pipeline.scheduler.step = lambda noise, *args, **kwargs: given.append(noise) or step(noise, *args, **kwargs)
        run(pipeline, image_token_ids=tokens(3, 9), guidance_scale=99.0, guidance_rescale=0.7, num_inference_steps=1)
        negative, positive = predicted[0].chunk(2)
        guided = negative + 99.0 * (positive - negative)
        for picture, before, without in zip(given[0], guided, positive):
            rescaled = before * without.std() / before.std()
            torch.testing.assert_close(picture, 0.7 * rescaled + 0.3 * before, rtol=1e-5, atol=1e-5)
            assert before.std() > 2 * without.std()

    def test_none_is_the_default(self, pipeline):
        assert torch.equal(run(pipeline, guidance_rescale=0.0), run(pipeline))
        strong = run(pipeline, guidance_scale=99.0)
        assert not torch.allclose(run(pipeline, guidance_scale=99.0, guidance_rescale=1.0), strong, **CLOSE)

    def test_nothing_to_rescale_without_guidance(self, pipeline):
        assert torch.equal(run(pipeline, guidance_scale=1.0, guidance_rescale=0.7), run(pipeline, guidance_scale=1.0))


class TestEta:
    def test_none_is_the_default(self, pipeline):
        assert torch.equal(run(pipeline, eta=0.0), run(pipeline))

    def test_draws_from_the_generator(self, pipeline):
        noise = pipeline.prepare_latents(1, 16, 16, torch.Generator().manual_seed(3))
        first, again, other = (
            run(pipeline, eta=0.5, latents=noise, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
        )
        assert torch.equal(first, again) and first.isfinite().all()
        assert not torch.allclose(first, other, **CLOSE)
        assert not torch.allclose(first, run(pipeline, latents=noise), **CLOSE)

    def test_reaches_the_scheduler(self, pipeline):
        """One step by hand is one step of the pipeline."""
        noise = pipeline.prepare_latents(1, 16, 16, torch.Generator().manual_seed(3))
        predicted = []
        pipeline.unet.register_forward_hook(lambda module, args, output: predicted.append(output[0]))
        latents = run(pipeline, eta=0.8, latents=noise, guidance_scale=1.0, num_inference_steps=1)
        timestep, generator = pipeline.scheduler.timesteps[0], torch.Generator().manual_seed(0)
        expected = pipeline.scheduler.step(predicted[0], timestep, noise, eta=0.8, generator=generator).prev_sample
        assert torch.equal(latents, expected)

    def test_schedulers_without_it_ignore_it(self, pipeline, caplog):
        pipeline.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        default = run(pipeline)
        assert not caplog.records
        assert torch.equal(run(pipeline, eta=0.5), default)
        (record,) = caplog.records
        assert (
            record.getMessage()
            == "eta=0.5 is ignored: DPMSolverMultistepScheduler has no eta, but DDIMScheduler does."
        )


class TestStateOfACall:
    """Callbacks see the settings of their call on the pipeline, and the next call does not."""

    SETTINGS = {"guidance_scale": 3.0, "guidance_rescale": 0.5, "cross_attention_kwargs": {"scale": 1.0}}

    def test_is_what_the_call_was_given(self, pipeline):
        seen = []

        def look(pipeline, step, timestep, tensors):
            seen.append({name: getattr(pipeline, name) for name in (*self.SETTINGS, "num_timesteps", "interrupt")})

        run(pipeline, **self.SETTINGS, callback_on_step_end=look)
        run(pipeline, callback_on_step_end=look)
        assert seen[:2] == [{**self.SETTINGS, "num_timesteps": 2, "interrupt": False}] * 2
        default = {"guidance_scale": 7.0, "guidance_rescale": 0.0, "cross_attention_kwargs": None}
        assert seen[2:] == [{**default, "num_timesteps": 2, "interrupt": False}] * 2

    def test_what_a_callback_sets_ends_with_the_call(self, pipeline):
        def change(pipeline, step, timestep, tensors):
            pipeline._guidance_scale, pipeline._guidance_rescale, pipeline._interrupt = 2.0, 1.0, True

        expected = run(pipeline)
        run(pipeline, **self.SETTINGS, callback_on_step_end=change)
        assert torch.equal(run(pipeline), expected)

    def test_nor_after_an_error(self, pipeline):
        def fail(pipeline, step, timestep, tensors):
            pipeline._interrupt = True
            raise RuntimeError("stopped")

        expected = run(pipeline)
        with pytest.raises(RuntimeError, match="stopped"):
            run(pipeline, **self.SETTINGS, callback_on_step_end=fail)
        assert torch.equal(run(pipeline), expected)

    def test_what_a_callback_writes_into_is_a_copy(self, pipeline):
        def wipe(pipeline, step, timestep, tensors):
            for tensor in tensors.values():
                tensor.zero_()

        condition = pipeline.encode_image_tokens(tokens(5))
        noise = pipeline.prepare_latents(1, 16, 16, torch.Generator().manual_seed(0))
        arguments = {"num_inference_steps": 2, "guidance_scale": 1.0}
        expected = pipeline.denoise(noise, condition, **arguments)
        names = pipeline._callback_tensor_inputs
        pipeline.denoise(
            noise, condition, **arguments, callback_on_step_end=wipe, callback_on_step_end_tensor_inputs=names
        )
        assert torch.equal(pipeline.denoise(noise, condition, **arguments), expected)


class TestSaveAndLoad:
    def test_round_trip(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        loaded = LaVITPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        arguments = {"image_token_ids": None, "prompt": "a red apple"}
        torch.testing.assert_close(run(loaded, **arguments), run(pipeline, **arguments), **CLOSE)

    def test_optional_components(self, pipeline, tmp_path):
        for name in pipeline._optional_components:
            setattr(pipeline, name, None)
        expected = run(pipeline, output_type="pt")
        pipeline.save_pretrained(tmp_path)
        loaded = LaVITPipeline.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert all(getattr(loaded, name) is None for name in pipeline._optional_components)
        torch.testing.assert_close(run(loaded, output_type="pt"), expected, **CLOSE)

    def test_components_make_a_second_pipeline(self, pipeline):
        second = LaVITPipeline(**pipeline.components)
        second.set_progress_bar_config(disable=True)
        assert torch.equal(run(second), run(pipeline))
        third = LaVITPipeline.from_pipe(pipeline)
        third.set_progress_bar_config(disable=True)
        assert torch.equal(run(third), run(pipeline))
        assert third.unet is pipeline.unet

    def test_model_index(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        index = json.loads((tmp_path / "model_index.json").read_text())
        assert index["_class_name"] == "LaVITPipeline"
        assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
        assert index["language_model"] == ["lavit_hf.lavit.modeling_lavit", "LaVITForCausalLM"]
        assert index["detokenizer"] == ["lavit_hf.pixels.modeling_detokenizer", "LaVITDetokenizer"]

    def test_variants(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path, variant="fp16")
        assert (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
        loaded = LaVITPipeline.from_pretrained(tmp_path, variant="fp16")
        loaded.set_progress_bar_config(disable=True)
        torch.testing.assert_close(run(loaded), run(pipeline), **CLOSE)

    def test_dtypes_on_load(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        loaded = LaVITPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
        models = [model for model in loaded.components.values() if isinstance(model, torch.nn.Module)]
        assert {model.dtype for model in models} == {torch.bfloat16}
        mixed = LaVITPipeline.from_pretrained(tmp_path, dtype={"unet": torch.bfloat16, "default": torch.float32})
        assert (mixed.unet.dtype, mixed.detokenizer.dtype) == (torch.bfloat16, torch.float32)
        mixed.set_progress_bar_config(disable=True)
        assert run(mixed, image_token_ids=None, prompt="a dog").isfinite().all()


class TestSharing:
    """What stands beside a pipeline, in memory or on disk, does not change its images."""

    def test_saving_without_a_language_model_over_a_repo_that_has_one(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path)
        pipeline.language_model = None
        pipeline.detokenizer.set_codebook(torch.ones(CODEBOOK_SIZE, CODEBOOK_DIM))
        pipeline.save_pretrained(tmp_path)
        assert (LaVITPipeline.from_pretrained(tmp_path, language_model=None).detokenizer.codebook == 1).all()

    def test_a_second_language_model_needs_a_detokenizer_of_its_own(self, pipeline):
        LaVITPipeline(**pipeline.components)  # the same codebook is no harm
        other = tiny_language_model()
        torch.nn.init.ones_(other.visual_tokenizer.quantizer.codebook.weight)
        with pytest.raises(ValueError, match="detokenizer of its own"):
            LaVITPipeline(**{**pipeline.components, "language_model": other})

    def test_an_offloaded_language_model_shares_its_codebook(self, pipeline):
        expected = pipeline.detokenizer.codebook.clone()
        cpu_offload(pipeline.language_model, execution_device="cpu")
        LaVITPipeline(**pipeline.components)
        pipeline.detokenizer.codebook = None
        LaVITPipeline(**pipeline.components)
        assert torch.equal(pipeline.detokenizer.codebook, expected)

    def test_a_cast_language_model_keeps_its_detokenizer(self, pipeline):
        pipeline.language_model.to(torch.bfloat16)
        again = LaVITPipeline(**pipeline.components)
        assert again.detokenizer is pipeline.detokenizer and again.detokenizer.codebook.dtype == torch.float32

    def test_an_interrupted_save_is_checked_before_it_is_loaded(self, pipeline, tmp_path):
        """Its index may name a shard that is a link out of the folder."""
        repo, name = tmp_path / "repo", "unet/diffusion_pytorch_model.safetensors.index.json"
        pipeline.save_pretrained(repo, max_shard_size="20KB")
        index = (repo / name).read_text()
        shard = min(json.loads(index)["weight_map"].values())
        (repo / "unet" / "link.safetensors").symlink_to(shutil.copy(repo / "unet" / shard, tmp_path))
        unfinished = repo / SAVE_FOLDER
        (unfinished / "new" / "unet").mkdir(parents=True)
        (unfinished / "new" / name).write_text(index.replace(shard, "link.safetensors"))
        (unfinished / CHANGES_NAME).write_text(json.dumps({"written": [name], "removed": []}))
        with pytest.raises(CheckpointError, match="symbolic link out of"):
            LaVITPipeline.from_pretrained(repo)
        assert not unfinished.exists()

    def test_a_variant_beside_the_default_is_not_read_for_it(self, pipeline, tmp_path):
        pipeline.save_pretrained(tmp_path, max_shard_size="20KB")
        pipeline.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
        assert not [file for file in index.values() if "fp16" in file]
        index = json.loads((tmp_path / "visual_tokenizer.safetensors.index.json").read_text())["weight_map"]
        assert not [file for file in index.values() if "fp16" in file]


class TestDevicesAndDtypes:
    def test_to_dtype(self, pipeline):
        expected = run(pipeline)
        pipeline.to(torch.bfloat16)
        models = [model for model in pipeline.components.values() if isinstance(model, torch.nn.Module)]
        assert {model.dtype for model in models} == {torch.bfloat16}
        latents = run(pipeline)
        assert latents.dtype == torch.float32
        assert (latents - expected).abs().max() < 0.1 * expected.abs().max()
        assert run(pipeline, image_token_ids=None, prompt="a dog", output_type="pt").dtype == torch.float32

    def test_to_device(self, pipeline):
        assert pipeline.to("cpu").device.type == "cpu"
        pipeline.to("meta")
        models = [model for model in pipeline.components.values() if isinstance(model, torch.nn.Module)]
        assert {model.device.type for model in models} == {"meta"}

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_vae_decodes_in_fp32_where_its_config_forces_it(self, pipeline, dtype):
        seen = []
        pipeline.vae.to(dtype)
        pipeline.vae.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
        run(pipeline, output_type="pt")
        assert seen == [torch.float32] and pipeline.vae.dtype == dtype

    def test_vae_is_put_back_after_an_error(self, pipeline, monkeypatch):
        def fail(*args, **kwargs):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(pipeline.vae.decoder, "forward", fail)
        pipeline.vae.to(torch.bfloat16)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(pipeline, output_type="pt")
        assert pipeline.vae.dtype == torch.bfloat16

    def test_vae_keeps_its_dtype_where_nothing_forces_it(self, pipeline):
        seen = []
        pipeline.vae.register_to_config(force_upcast=False)
        pipeline.vae.to(torch.bfloat16)
        pipeline.vae.decoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
        run(pipeline, output_type="pt")
        assert seen == [torch.bfloat16]

    def test_nothing_is_left_changed(self, pipeline):
        models = {name: model for name, model in pipeline.components.items() if isinstance(model, torch.nn.Module)}
        before = {name: {key: t.clone() for key, t in model.state_dict().items()} for name, model in models.items()}
        run(pipeline, image_token_ids=None, prompt="a dog", output_type="pt")
        for name, model in models.items():
            assert all(torch.equal(before[name][key], tensor) for key, tensor in model.state_dict().items())

    def test_model_offloading(self, pipeline):
        """Hooks in the order of the stages, and the language model awake before `generate` touches its weights."""
        arguments = {"image_token_ids": None, "prompt": "a dog", "llm_guidance_scale": 3.0, "output_type": "pt"}
        expected = run(pipeline, **arguments)
        pipeline.enable_model_cpu_offload(device="cpu")
        awake = []
        hook = pipeline.language_model._hf_hook
        pre_forward = hook.pre_forward
        hook.pre_forward = lambda model, *args, **kwargs: awake.append(model) or pre_forward(model, *args, **kwargs)
        embedding = pipeline.language_model.get_input_embeddings()
        embedding.register_forward_pre_hook(lambda *args: awake.append("weights"))
        torch.testing.assert_close(run(pipeline, **arguments), expected, **CLOSE)
        assert awake[0] is pipeline.language_model
        torch.testing.assert_close(run(pipeline, **arguments), expected, **CLOSE)

    def test_sequential_offloading_of_the_detokenizer(self, repos):
        """Its negative rows, too, which are used outside `forward`."""
        pipeline = LaVITPipeline.from_pretrained(repos["lowres"], language_model=None)
        start, end = pipeline.processor.image_token_ids
        ids = [torch.tensor([start, end + 1, end + 2, end])]
        expected = pipeline.encode_image_tokens(ids)
        cpu_offload(pipeline.detokenizer, execution_device="cpu", offload_buffers=True)
        assert pipeline.detokenizer.negative_embeds.is_meta
        condition = pipeline.encode_image_tokens(ids)
        torch.testing.assert_close(condition.negative_prompt_embeds, expected.negative_prompt_embeds)
        assert expected.negative_prompt_embeds.any()

    def test_model_offloading_cannot_search_for_an_error(self, pipeline):
        picture = PIL.Image.new("RGB", (32, 32), "red")
        pipeline.enable_model_cpu_offload(device="cpu")
        with pytest.raises(ValueError, match=r"one model at a time on the device\. Pass keep_ratio"):
            pipeline.reconstruct(picture, keep_error=0.5, num_inference_steps=1)
        assert len(pipeline.reconstruct(picture, keep_ratio=0.5, num_inference_steps=1).images) == 1


class TestMemoryAndAttention:
    def test_vae_slicing_and_tiling(self, pipeline):
        arguments = {"image_token_ids": tokens(3, 4), "output_type": "pt"}
        pipeline.safety_checker = None
        expected = run(pipeline, **arguments)
        pipeline.vae.enable_slicing()
        torch.testing.assert_close(run(pipeline, **arguments), expected, **CLOSE)
        pipeline.vae.enable_tiling()
        torch.testing.assert_close(run(pipeline, **arguments), expected, **CLOSE)

    def test_attention_slicing_and_processors(self, pipeline):
        expected = run(pipeline)
        pipeline.enable_attention_slicing()
        torch.testing.assert_close(run(pipeline), expected, **CLOSE)
        pipeline.disable_attention_slicing()
        pipeline.unet.set_attn_processor(AttnProcessor())
        torch.testing.assert_close(run(pipeline), expected, **CLOSE)

    def test_freeu(self, pipeline):
        expected = run(pipeline)
        pipeline.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
        changed = run(pipeline)
        assert changed.isfinite().all() and not torch.allclose(changed, expected, **CLOSE)
        pipeline.disable_freeu()
        assert torch.equal(run(pipeline), expected)

    def test_fused_projections(self, pipeline):
        arguments = {"output_type": "pt", "image_token_ids": tokens(3, 4)}
        pipeline.safety_checker = None
        expected = run(pipeline, **arguments)
        unfused = dict(pipeline.unet.attn_processors), dict(pipeline.vae.attn_processors)
        pipeline.fuse_qkv_projections()
        for model in (pipeline.unet, pipeline.vae):
            assert {type(processor) for processor in model.attn_processors.values()} == {FusedAttnProcessor2_0}
            attentions = [module for module in model.modules() if isinstance(module, Attention)]
            assert attentions and all(module.fused_projections for module in attentions)
        torch.testing.assert_close(run(pipeline, **arguments), expected, **CLOSE)
        pipeline.unfuse_qkv_projections()
        assert (pipeline.unet.attn_processors, pipeline.vae.attn_processors) == unfused
        assert torch.equal(run(pipeline, **arguments), expected)

    def test_unfusing_what_was_not_fused(self, pipeline):
        expected = run(pipeline)
        pipeline.unfuse_qkv_projections()
        assert torch.equal(run(pipeline), expected)

    def test_an_autoencoder_without_attention_slices_and_tiles(self, pipeline):
        """Says so, and the U-Net is not left half-done."""
        vae = PatchAutoencoder(patch_size=2, latent_channels=4)
        pipeline = LaVITPipeline(**{**pipeline.components, "vae": vae})
        pipeline.set_progress_bar_config(disable=True)
        expected = run(pipeline)
        with pytest.raises(ValueError, match=r"PatchAutoencoder has no attention to fuse\. Pass vae=False"):
            pipeline.fuse_qkv_projections()
        assert not any(isinstance(part, FusedAttnProcessor2_0) for part in pipeline.unet.attn_processors.values())
        pipeline.fuse_qkv_projections(vae=False)
        torch.testing.assert_close(run(pipeline), expected, **CLOSE)
        with pytest.raises(NotImplementedError, match="Slicing doesn't seem to be implemented for PatchAutoencoder"):
            pipeline.vae.enable_slicing()
        with pytest.raises(NotImplementedError, match="Tiling doesn't seem to be implemented for PatchAutoencoder"):
            pipeline.vae.enable_tiling()

    def test_layerwise_casting(self, pipeline):
        pipeline.unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
        assert run(pipeline).isfinite().all()


class TestLora:
    @pytest.fixture
    def lora(self, pipeline, tmp_path):
        """A LoRA for the U-Net as diffusers saves it."""
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
        unet = UNet2DConditionModel.from_config(pipeline.unet.config)
        unet.add_adapter(config)
        layers = peft.get_peft_model_state_dict(unet)
        layers = {name: tensor if "lora_A" in name else tensor * 10 for name, tensor in layers.items()}
        LaVITPipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=layers)
        return tmp_path / "lora"

    def test_load_scale_fuse_unload(self, pipeline, lora):
        plain = run(pipeline)
        pipeline.load_lora_weights(lora, adapter_name="style")
        assert pipeline.get_active_adapters() == ["style"]
        styled = run(pipeline)
        assert not torch.allclose(styled, plain, **CLOSE)
        torch.testing.assert_close(run(pipeline, cross_attention_kwargs={"scale": 0.0}), plain, **CLOSE)
        pipeline.set_adapters("style", 0.5)
        half = run(pipeline)
        assert not torch.allclose(half, plain, **CLOSE) and not torch.allclose(half, styled, **CLOSE)
        pipeline.set_adapters("style", 1.0)
        pipeline.fuse_lora()
        torch.testing.assert_close(run(pipeline), styled, **CLOSE)
        pipeline.unfuse_lora()
        pipeline.unload_lora_weights()
        torch.testing.assert_close(run(pipeline), plain, **CLOSE)

    def test_text_encoder_layers_are_passed_over(self, pipeline, lora):
        from safetensors.torch import load_file

        weights = load_file(lora / "pytorch_lora_weights.safetensors")
        pipeline.load_lora_weights(weights)
        expected = run(pipeline)
        pipeline.unload_lora_weights()
        layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
        weights |= {f"{layer}.lora_A.weight": torch.zeros(2, 8), f"{layer}.lora_B.weight": torch.zeros(8, 2)}
        pipeline.load_lora_weights(weights)
        torch.testing.assert_close(run(pipeline), expected, **CLOSE)

    def test_something_else(self, pipeline):
        pytest.importorskip("peft")
        with pytest.raises(ValueError, match="not a LoRA"):
            pipeline.load_lora_weights({"unet.conv_in.weight": torch.zeros(1)})

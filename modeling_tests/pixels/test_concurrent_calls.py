# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""One pipeline in several threads: each paints what it paints alone."""

import threading

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler

from lavit_hf.pixels.concurrent_calls import upcast
from lavit_hf.pixels.pipeline_lavit import LaVITPipeline
from threads import run_in_threads
from tiny_pixels import (
    FIRST_CODE,
    tiny_detokenizer,
    tiny_language_model,
    tiny_processor,
    tiny_unet,
    tiny_vae,
)


@pytest.fixture
def pipeline() -> LaVITPipeline:
    torch.manual_seed(0)
    pipeline = LaVITPipeline(
        language_model=tiny_language_model(),
        processor=tiny_processor(),
        detokenizer=tiny_detokenizer(True),
        unet=tiny_unet(True),
        vae=tiny_vae(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint(pipeline: LaVITPipeline, seed: int) -> torch.Tensor:
    """With steps and guidance of its own, by which calls could tell that they meet."""
    settings = {"num_inference_steps": 4 + seed, "guidance_scale": 1.0 + seed, "guidance_rescale": 0.2 * seed}
    source = torch.Generator().manual_seed(seed)
    return pipeline("a red apple", generator=source, output_type="pt", eta=0.5, **settings).images


class TestThreads:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["DDIMScheduler", "UniPCMultistepScheduler", "PNDMScheduler"])
    def test_each_paints_what_it_paints_alone(self, pipeline, name):
        pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
        alone = [paint(pipeline, seed) for seed in range(4)]
        for _ in range(2):
            threaded = run_in_threads(lambda seed: paint(pipeline, seed), range(4))
            assert all(torch.equal(*pair) for pair in zip(alone, threaded, strict=True))

    def test_pipelines_that_share_components(self, pipeline):
        pipelines = [pipeline, LaVITPipeline(**pipeline.components), pipeline]
        for one in pipelines:
            one.set_progress_bar_config(disable=True)
        alone = [paint(one, seed) for seed, one in enumerate(pipelines)]
        threaded = run_in_threads(lambda seed: paint(pipelines[seed], seed), range(3))
        assert all(torch.equal(*pair) for pair in zip(alone, threaded, strict=True))

    def test_callbacks_change_their_own_call_only(self, pipeline):
        """One thread ends its guidance and then itself while another is in the middle of its steps."""
        ids = [torch.arange(FIRST_CODE, FIRST_CODE + 4)]
        halfway, ended = threading.Event(), threading.Event()

        def run(callback=None):
            source = torch.Generator().manual_seed(0)
            settings = {"num_inference_steps": 4, "guidance_scale": 3.0, "output_type": "latent"}
            return pipeline(image_token_ids=ids, generator=source, callback_on_step_end=callback, **settings).images

        def wait(pipe, step, timestep, tensors):
            if step == 1:
                halfway.set()
                assert ended.wait(60)
            return tensors

        def stop(pipe, step, timestep, tensors):
            pipe._guidance_scale, pipe._interrupt = 0.0, True
            return tensors

        def work(callback):
            if callback is wait:
                return run(wait)
            assert halfway.wait(60)
            latents = run(stop)
            ended.set()
            return latents

        expected = run()
        undisturbed, stopped = run_in_threads(work, [wait, stop])
        assert torch.equal(undisturbed, expected)
        assert not torch.equal(stopped, expected)

    def test_with_model_offloading_they_wait_for_each_other(self, pipeline):
        """A copy would move the models while another call uses them."""
        pipeline.enable_model_cpu_offload(device="cpu")
        painters = []

        def run(seed):
            def record(pipe, step, timestep, tensors):
                painters.append((pipe, seed))
                return tensors

            source = torch.Generator().manual_seed(seed)
            settings = {"num_inference_steps": 5, "output_type": "latent", "callback_on_step_end": record}
            ids = [torch.arange(FIRST_CODE, FIRST_CODE + 4)]
            return pipeline(image_token_ids=ids, generator=source, **settings).images

        alone = [run(seed) for seed in range(3)]
        painters.clear()
        threaded = run_in_threads(run, range(3))
        assert all(torch.equal(*pair) for pair in zip(alone, threaded, strict=True))
        assert all(pipe is pipeline for pipe, _ in painters)
        seeds = [seed for _, seed in painters]
        assert all(len(set(seeds[start : start + 5])) == 1 for start in (0, 5, 10))

    def test_alone_a_call_shows_in_the_pipeline(self, pipeline):
        paint(pipeline, 2)
        assert pipeline.num_timesteps == 6 == len(pipeline.scheduler.timesteps)
        assert pipeline.guidance_scale == 3.0


class TestUpcast:
    def test_half_precision_comes_back_when_the_last_has_ended(self):
        vae = tiny_vae().to(torch.float16)
        inside, first_left = threading.Barrier(2), threading.Event()

        def use(is_first: bool) -> list[torch.dtype]:
            with upcast(vae):
                inside.wait(60)
                dtypes = [vae.dtype]
                if not is_first:
                    assert first_left.wait(60)
                    dtypes.append(vae.dtype)
            if is_first:
                first_left.set()
            return dtypes

        assert run_in_threads(use, [True, False]) == [[torch.float32], [torch.float32] * 2]
        assert vae.dtype == torch.float16

    def test_pictures_of_a_vae_that_needs_it(self, pipeline):
        pipeline.vae.register_to_config(force_upcast=True)
        pipeline.vae.to(torch.float16)
        alone = [paint(pipeline, seed) for seed in range(3)]
        threaded = run_in_threads(lambda seed: paint(pipeline, seed), range(3))
        assert all(torch.equal(*pair) for pair in zip(alone, threaded, strict=True))
        assert pipeline.vae.dtype == torch.float16

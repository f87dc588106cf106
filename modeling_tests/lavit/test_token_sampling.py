# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Draws from the caller's generators: those of transformers in number and chance, and of nobody else."""

import copy

import pytest
import torch
from transformers import LlamaConfig, StoppingCriteria

from conftest import tiny_visual_config
from lavit_hf import LaVITConfig, LaVITForCausalLM
from lavit_hf.lavit.token_sampling import MAX_SEED
from threads import run_in_threads


TEXT_VOCAB = 40
START, END = TEXT_VOCAB, TEXT_VOCAB + 1
SAMPLING = {"do_sample": True, "max_new_tokens": 8, "min_new_tokens": 8}
FILTERS = {"temperature": 1.5, "top_k": 6, "top_p": 0.9}

DECODING = {
    "sampling": {},
    "sampled beams": {"num_beams": 3},
    "several of a prompt": {"num_return_sequences": 3},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
}


@pytest.fixture(scope="module")
def model() -> LaVITForCausalLM:
    torch.manual_seed(0)
    text_config = LlamaConfig(
        vocab_size=TEXT_VOCAB + 2 + 24,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    visual_config = tiny_visual_config(selection="sample")
    return LaVITForCausalLM(LaVITConfig(text_config=text_config, visual_tokenizer_config=visual_config)).eval()


@pytest.fixture(scope="module")
def pixel_values() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def child_seed(seed: int) -> int:
    """What a generator of a seed gives to those that draw ids."""
    return int(torch.randint(MAX_SEED, (1,), generator=torch.Generator().manual_seed(seed)))


class TestDraws:
    @pytest.mark.parametrize("settings", [{}, FILTERS, {"num_beams": 3, **FILTERS}, {"num_return_sequences": 2}])
    @pytest.mark.parametrize("mode", ["text", "image"])
    def test_they_are_those_of_transformers(self, model, settings, mode):
        """To the last id: what the process-wide state of that seed gives where no generator is passed."""
        ids = torch.tensor([[5, 6, 7], [8, 9, 5]])
        arguments = {"generation_mode": mode, **SAMPLING, **settings}
        drawn = model.generate(ids, generator=generators(3)[0], **arguments)
        torch.manual_seed(child_seed(3))
        assert torch.equal(drawn, model.generate(ids, **arguments))

    @pytest.mark.parametrize("settings", DECODING.values(), ids=DECODING.keys())
    def test_the_process_keeps_its_state(self, model, settings):
        torch.manual_seed(0)
        state = torch.get_rng_state()
        model.generate(torch.tensor([[5, 6, 7, 5, 6]]), generator=generators(3)[0], **SAMPLING, **settings)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("decoding", ["sampling", "prompt lookup"])
    def test_their_chances_are_those_of_the_scores(self, model, decoding):
        """A chi-squared test of 3,000 draws of a second id against temperature, top-k and top-p done by hand."""
        ids, first = torch.tensor([[5, 6, 7, 5, 6]]), 7
        with torch.no_grad():
            logits = model(torch.cat([ids, torch.tensor([[first]])], dim=1)).logits[0, -1, :TEXT_VOCAB]
        probs, order = (logits / FILTERS["temperature"]).topk(FILTERS["top_k"])
        probs = probs.softmax(dim=-1)
        probs = probs[probs.cumsum(0) - probs < FILTERS["top_p"]]
        probs, order = probs / probs.sum(), order[: len(probs)]
        prompt = torch.cat([ids, torch.tensor([[first]])], dim=1)
        settings = {"do_sample": True, "max_new_tokens": 1, **FILTERS, **DECODING[decoding]}
        if decoding == "sampling":
            drawn = model.generate(prompt.repeat(3000, 1), generator=generators(1)[0], **settings)[:, -1]
        else:  # one prompt at a time
            source = generators(1)[0]
            drawn = torch.cat([model.generate(prompt, generator=source, **settings)[:, -1] for _ in range(300)])
        counts = torch.stack([(drawn == token).sum() for token in order])
        assert counts.sum() == len(drawn)
        expected = probs * len(drawn)
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert statistic < 25  # of 5 degrees of freedom at most: once in 7,000 seeds by chance

    @pytest.mark.parametrize("decoding", ["sampling", "prompt lookup"])
    def test_scores_are_those_that_were_drawn_by(self, model, decoding):
        ids, seen = torch.tensor([[5, 6, 7, 5, 6]]), []

        class Look(StoppingCriteria):
            def __call__(self, input_ids, scores, **kwargs):
                seen.append(scores)
                return torch.zeros(len(input_ids), dtype=torch.bool)

        settings = {**SAMPLING, **DECODING[decoding], "output_scores": True, "return_dict_in_generate": True}
        outputs = model.generate(ids, generator=generators(3)[0], stopping_criteria=[Look()], **settings)
        with torch.no_grad():
            logits = model(outputs.sequences).logits[:, ids.shape[1] - 1 : -1]
        assert len(outputs.scores) == 8
        for number, scores in enumerate(outputs.scores):
            expected = logits[:, number].clone()
            expected[:, TEXT_VOCAB:] = -torch.inf
            expected[:, 2] = -torch.inf  # the end, before the least length
            torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
        if decoding == "sampling":
            assert all(torch.equal(*pair) for pair in zip(seen[-1], outputs.scores, strict=True))

    def test_how_many_there_were_does_not_matter(self, model):
        """What is drawn from the generator afterwards is the same, for an image's latents above all."""
        rest = []
        for length in (1, 8):
            source = generators(3)[0]
            model.generate(torch.tensor([[5]]), generator=source, do_sample=True, max_new_tokens=length)
            rest.append(torch.rand(3, generator=source))
        assert torch.equal(*rest)


class TestGeneratorsOfEachPrompt:
    @pytest.mark.parametrize("mode", ["text", "image"])
    @pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"num_return_sequences": 2}])
    def test_a_prompt_draws_what_it_draws_alone(self, model, pixel_values, mode, settings):
        """Its ids and the patches of its images, of which there are two, none and one."""
        end = [START] if mode == "image" else [9]
        prompts = [[START, END, START, END, 5, *end], [5, 6, 7, 8, 9, *end], [START, END, 6, 7, 8, *end]]
        images = [pixel_values[:2], None, pixel_values[2:3]]
        arguments = {"generation_mode": mode, **SAMPLING, **settings}
        together = model.generate(
            torch.tensor(prompts), pixel_values[:3], generator=generators(4, 5, 6), **arguments
        ).chunk(3)
        for number, seed in enumerate((4, 5, 6)):
            prompt = torch.tensor(prompts[number : number + 1])
            alone = model.generate(prompt, images[number], generator=generators(seed), **arguments)
            assert torch.equal(together[number], alone)
            if number != 1:  # one for all draws the patches of all images at once
                assert torch.equal(
                    alone, model.generate(prompt, images[number], generator=generators(seed)[0], **arguments)
                )

    def test_images_draw_apart(self, model, pixel_values):
        together = model.get_image_tokens(pixel_values, generator=generators(1, 2, 3, 4))
        for number, seed in enumerate((1, 2, 3, 4)):
            (alone,) = model.get_image_tokens(pixel_values[number : number + 1], generator=generators(seed)[0])
            assert torch.equal(together[number], alone)

    def test_number(self, model):
        with pytest.raises(ValueError, match="2 generators for 1 prompts"):
            model.generate(torch.tensor([[5]]), generator=generators(1, 2), do_sample=True)

    def test_number_for_images(self, model, pixel_values):
        with pytest.raises(ValueError, match=r"2 generators for 4 images\. Pass one"):
            model.get_image_tokens(pixel_values, generator=generators(1, 2))

    @pytest.mark.parametrize("generator", [3, [None, None]])
    def test_what_is_no_generator(self, model, generator):
        with pytest.raises(ValueError, match=r"must be a torch\.Generator, or a list with one for each prompt"):
            model.generate(torch.tensor([[5], [6]]), generator=generator, do_sample=True)


class TestThreads:
    @pytest.mark.parametrize("mode", ["text", "image"])
    @pytest.mark.parametrize("settings", DECODING.values(), ids=DECODING.keys())
    def test_each_draws_what_it_draws_alone(self, model, pixel_values, mode, settings):
        is_assisted = "prompt_lookup_num_tokens" in settings
        start = [] if is_assisted else [START, END]
        ids = torch.tensor([[*start, 5, 6, 5, 6, START if mode == "image" else 7]])
        images = None if is_assisted else pixel_values[:1]
        guidance = {"guidance_scale": 1.0} if mode == "image" else {}

        def draw(seed: int) -> torch.Tensor:
            source = torch.Generator().manual_seed(seed)
            arguments = {"generation_mode": mode, **SAMPLING, **settings, **guidance}
            return model.generate(ids, images, generator=source, **arguments)

        alone = [draw(seed) for seed in range(6)]
        assert len({tuple(ids.flatten().tolist()) for ids in alone}) > 1
        for _ in range(2):
            assert all(torch.equal(*pair) for pair in zip(alone, run_in_threads(draw, range(6)), strict=True))

    def test_an_assistant_that_draws(self, model):
        assistant = copy.deepcopy(model)
        assistant.generation_config.do_sample = True

        def draw(seed: int) -> torch.Tensor:
            source = torch.Generator().manual_seed(seed)
            # Assistants are adapted to their guesses from call to call, so that each call has one of its own.
            guide = copy.deepcopy(assistant)
            return model.generate(torch.tensor([[5, 6]]), assistant_model=guide, generator=source, **SAMPLING)

        alone = [draw(seed) for seed in range(3)]
        assert all(torch.equal(*pair) for pair in zip(alone, run_in_threads(draw, range(3)), strict=True))

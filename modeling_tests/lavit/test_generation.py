# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generation keeps the caller's word, and a cache gives what the whole sequence gives."""

import copy
import traceback

import pytest
import torch
from test_modeling_lavit import END, EOS, FIRST_CODE, START, TEXT_VOCAB, left_pad, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BloomConfig, DynamicCache, GenerationConfig, LlamaForCausalLM, StaticCache
from transformers.generation import RepetitionPenaltyLogitsProcessor

from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITProcessor, bundled_checkpoint


GREEDY = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6}
GUIDED = {"generation_mode": "image", "guidance_scale": 3.0, **GREEDY}
OUTPUTS = {"return_dict_in_generate": True}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LaVITForCausalLM(tiny_config()).eval()


@pytest.fixture
def pixel_values():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def encoded(model):
    """The images that the encoder has seen, as numbers of them."""
    seen = []
    model.visual_tokenizer.encoder.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    return seen


def penalise(scores: torch.Tensor, ids: list[int], penalty: float) -> torch.Tensor:
    """What `repetition_penalty` means for a row of scores, by hand."""
    scores = scores.clone()
    for i in set(ids):
        scores[i] = scores[i] * penalty if scores[i] < 0 else scores[i] / penalty
    return scores


class TestProcessorsReadThePrompt:
    READING = [
        {"repetition_penalty": 3.0},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"encoder_repetition_penalty": 3.0},
        {"encoder_no_repeat_ngram_size": 1},
        {"sequence_bias": [[[0, 5, 7], 90.0], [[6, 8], 90.0]]},
        {"bad_words_ids": [[0, 5, 9], [3]]},
        {"logits_processor": [RepetitionPenaltyLogitsProcessor(3.0)]},
        {"prefix_allowed_tokens_fn": lambda batch_id, ids: [3 + int(ids.sum()) % 7, 11 + len(ids) % 5]},
        {"repetition_penalty": 3.0, "num_beams": 3},
    ]

    @pytest.mark.parametrize("settings", READING, ids=lambda settings: "-".join(settings))
    @pytest.mark.parametrize("mode", ["text", "image"])
    def test_a_prompt_in_a_batch_is_as_if_alone(self, model, pixel_values, settings, mode):
        tail = [START] if mode == "image" else []
        prompts = [[START, END, 5, 6, 9, 9, *tail], [5, *tail], [8, START, END, *tail], [6, *tail]]
        pictures = [pixel_values[:1], None, pixel_values[1:2], None]
        settings = {"generation_mode": mode, "guidance_scale": 1.0, **GREEDY, **settings}
        alone = [
            model.generate(torch.tensor([ids]), picture, **settings)[0, len(ids) :].tolist()
            for ids, picture in zip(prompts, pictures)
        ]
        for pad in (0, alone[1][0]):  # one that a prompt itself goes on with, too
            batch = model.generate(**left_pad(prompts, pad), pixel_values=pixel_values[:2], **settings)
            assert batch[:, -6:].tolist() == alone

    @torch.no_grad()
    def test_the_penalty_is_that_of_the_ids_of_the_prompt(self, model, pixel_values):
        """The first scores, by hand: `[IMG]` and `[/IMG]` and words count, padding does not."""
        batch = left_pad([[START, END, 5, 6], [7]], pad=9)
        settings = {"repetition_penalty": 2.0, "return_dict_in_generate": True, "output_scores": True, **GREEDY}
        scores = model.generate(**batch, pixel_values=pixel_values[:1], **settings).scores[0]
        logits = model(**batch, pixel_values=pixel_values[:1]).logits[:, -1]
        for row, ids in enumerate([[START, END, 5, 6], [7]]):
            expected = penalise(logits[row], ids, 2.0)[:TEXT_VOCAB]
            expected[EOS] = -torch.inf  # comes too early
            torch.testing.assert_close(scores[row, :TEXT_VOCAB], expected, rtol=0, atol=1e-5)

    @torch.no_grad()
    def test_guidance_does_not_count_its_negative_half(self, model):
        prompts = [[5, 6, START], [START]]
        scores = model.generate(
            **left_pad(prompts, pad=FIRST_CODE + 2),
            **GUIDED,
            negative_prompt_ids=torch.tensor([[FIRST_CODE, FIRST_CODE + 1, START]] * 2),
            repetition_penalty=2.0,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
        )
        new = scores.sequences[:, 3:].tolist()
        for step in range(6):
            for row, ids in enumerate(prompts):
                expected = penalise(scores.logits[step][row], [*ids, *new[row][:step]], 2.0)[FIRST_CODE:]
                torch.testing.assert_close(scores.scores[step][row, FIRST_CODE:], expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("settings", [{"repetition_penalty": 4.0}, {"no_repeat_ngram_size": 1}])
    def test_a_picture_counts_as_its_codes(self, model, pixel_values, settings):
        codes = model.get_image_tokens(pixel_values[:1])[0][1:-1].tolist()
        as_codes = model.generate(torch.tensor([[5, *codes, START]]), **GUIDED, **settings)
        as_picture = model.generate(torch.tensor([[5, START, END, START]]), pixel_values[:1], **GUIDED, **settings)
        assert as_picture[0, 4:].tolist() == as_codes[0, len(codes) + 2 :].tolist()

    def test_padding_without_a_mask_is_padding(self, model, pixel_values):
        batch = left_pad([[START, END, 5], [7]])
        settings = {"repetition_penalty": 3.0, **GREEDY}
        expected = model.generate(**batch, pixel_values=pixel_values[:1], **settings)
        assert torch.equal(model.generate(batch["input_ids"], pixel_values[:1], **settings), expected)


class TestGenerationConfig:
    PROMPT = {"input_ids": torch.tensor([[5, 6, START]]), "generation_mode": "image"}

    def test_what_is_asked_for_counts_where_it_equals_the_models_own(self, model):
        model.generation_config.max_new_tokens, model.generation_config.do_sample = 3, False
        model.generation_config.image_generation = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": True}
        config = GenerationConfig(max_new_tokens=3, do_sample=False)
        ids = model.generate(**self.PROMPT, generation_config=config)
        assert ids.shape[1] == 3 + 3
        assert torch.equal(ids, model.generate(**self.PROMPT, max_new_tokens=3, do_sample=False))

    def test_a_changed_copy_of_the_models_own_asks_for_the_change(self, model):
        model.generation_config.max_new_tokens = 3
        model.generation_config.image_generation = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False}
        config = copy.deepcopy(model.generation_config)
        config.repetition_penalty = 2.0
        ids = model.generate(**self.PROMPT, generation_config=config)
        assert ids.shape[1] == 3 + 9
        assert torch.equal(ids, model.generate(**self.PROMPT, repetition_penalty=2.0))

    def test_changed_settings_of_images(self, model):
        own = {"max_new_tokens": 9, "min_new_tokens": 2, "do_sample": False}
        model.generation_config.image_generation = own
        changed = copy.deepcopy(model.generation_config)
        changed.image_generation["max_new_tokens"] = changed.image_generation["min_new_tokens"] = 4
        wish = {"max_new_tokens": 4, "min_new_tokens": 4}
        expected = model.generate(**self.PROMPT, **wish)
        assert expected.shape[1] == 3 + 4
        for settings in (
            {"generation_config": changed},
            {"generation_config": GenerationConfig(image_generation=wish)},
            {"image_generation": wish},
        ):
            assert torch.equal(model.generate(**self.PROMPT, **settings), expected)
        assert model.generation_config.image_generation == own

    def test_unknown_attributes_are_kept_and_unknown_arguments_refused(self, model):
        ids = torch.tensor([[5, 6]])
        config = GenerationConfig(color="red", **GREEDY)
        assert torch.equal(model.generate(ids, generation_config=config), model.generate(ids, **GREEDY))
        assert config.color == "red"
        with pytest.raises(ValueError, match="color"):
            model.generate(ids, color="red")

    @pytest.mark.parametrize("settings", [{}, {"generation_mode": "image", "guidance_scale": 1.0}])
    @pytest.mark.parametrize("is_lavit", [True, False])
    def test_an_assistant_changes_nothing(self, model, settings, is_lavit):
        ids = torch.tensor([[5, 6, START if settings else 7]])
        settings = {**settings, "do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12}
        torch.manual_seed(0)
        assistant = LaVITForCausalLM(tiny_config()) if is_lavit else LlamaForCausalLM(tiny_config().text_config)
        calls = []
        assistant.eval().register_forward_hook(lambda *_: calls.append(1))
        expected = model.generate(ids, **settings)
        assert torch.equal(model.generate(ids, assistant_model=assistant, **settings), expected)
        assert calls

    def test_an_equal_assistant_is_right_at_once(self, model):
        """Its guesses are all taken, so that the model itself runs less often than there are ids."""
        calls = []
        model.register_forward_hook(lambda *_: calls.append(1))
        settings = {"do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12}
        assistant = copy.deepcopy(model)
        assistant.generation_config.num_assistant_tokens = 5
        assistant.generation_config.assistant_confidence_threshold = 0.0
        assistant._forward_hooks.clear()
        model.generate(torch.tensor([[5, 6]]), assistant_model=assistant, **settings)
        assert len(calls) == 2


class TestPrompts:
    def test_an_empty_prompt_starts_from_bos(self, model):
        expected = model.generate(torch.tensor([[1]]), **GREEDY)
        assert torch.equal(model.generate(**GREEDY), expected)
        assert torch.equal(model.generate(torch.zeros(2, 0, dtype=torch.long), **GREEDY), expected.repeat(2, 1))
        assert torch.equal(model.generate(bos_token_id=8, **GREEDY), model.generate(torch.tensor([[8]]), **GREEDY))

    def test_an_empty_prompt_for_an_image_starts_it(self, model):
        settings = {"generation_mode": "image", **GREEDY}
        assert torch.equal(model.generate(**settings), model.generate(torch.tensor([[START]]), **settings))

    def test_a_prompt_for_an_image_is_closed(self, model):
        negative = {"negative_prompt_ids": torch.tensor([[9], [9]])}
        closed = {"negative_prompt_ids": torch.tensor([[9, START], [9, START]])}
        ids = model.generate(**left_pad([[5, 6], [7]]), **GUIDED, **negative)
        assert torch.equal(ids, model.generate(**left_pad([[5, 6, START], [7, START]]), **GUIDED, **closed))

    def test_padding_of_negative_prompts_without_a_mask(self, model):
        prompts = left_pad([[5, 6], [7]])
        negative = left_pad([[9, 8, 7], [9]])
        masked = {f"negative_prompt_{name.removeprefix('input_')}": tensor for name, tensor in negative.items()}
        expected = model.generate(**prompts, **GUIDED, **masked)
        assert torch.equal(model.generate(**prompts, **GUIDED, negative_prompt_ids=negative["input_ids"]), expected)

    @pytest.mark.parametrize("mode", ["text", "image"])
    def test_ends_within_a_prompt_are_no_padding(self, model, mode):
        """Where a language model pads with its end, as GPT-2 does."""
        model.generation_config.pad_token_id = EOS
        ids = torch.tensor([[5, 6, EOS, 7, *([START] if mode == "image" else [])]])
        settings = {"generation_mode": mode, "guidance_scale": 1.0, **GREEDY}
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), output_logits=True, **settings, **OUTPUTS)
        got = model.generate(ids, output_logits=True, **settings, **OUTPUTS)
        torch.testing.assert_close(got.logits, expected.logits, rtol=0, atol=1e-5)

    def test_guidance_that_is_no_number(self, model):
        with pytest.raises(ValueError, match=r"guidance_scale must be 1 .* got nan"):
            model.generate(torch.tensor([[5, START]]), **GUIDED | {"guidance_scale": float("nan")})

    def test_guidance_with_beams_and_a_quantized_cache(self, model):
        with pytest.raises(ValueError, match="Leave out one of the three"):
            model.generate(torch.tensor([[5]]), **GUIDED, num_beams=2, cache_implementation="quantized")

    def test_an_image_that_was_begun_goes_on(self, model):
        settings = {"generation_mode": "image", "guidance_scale": 1.0}
        whole = model.generate(torch.tensor([[5, START]]), **settings, **GREEDY)
        rest = model.generate(whole[:, :5], **settings, do_sample=False, max_new_tokens=3, min_new_tokens=3)
        assert torch.equal(rest, whole)

    @pytest.mark.parametrize("settings", [{"guidance_scale": 1.0}, {"guidance_scale": 3.0}, {"num_beams": 2}])
    def test_an_image_that_was_begun_has_no_more_codes_than_patches(self, model, settings):
        """With those that the prompt begins it with, in rows of different numbers of them."""
        num_patches = model.config.visual_tokenizer_config.num_patches
        codes = torch.arange(num_patches) + FIRST_CODE
        prompts = [[5, START, *codes[:count].tolist()] for count in (3, 0, num_patches)]
        settings = {"generation_mode": "image", "guidance_scale": 1.0, "do_sample": False, **settings}
        ids = model.generate(**left_pad(prompts), **settings, min_new_tokens=30, max_new_tokens=30)
        for row in ids.tolist():
            image = row[row.index(START) + 1 :]
            assert image.index(END) == num_patches and min(image[:num_patches]) >= FIRST_CODE

    @pytest.mark.parametrize("ids", [[5, START], [START], [5, START, FIRST_CODE]])
    def test_a_prompt_for_an_image_gives_no_text(self, model, ids):
        with pytest.raises(ValueError, match="generation_mode is 'text'"):
            model.generate(**left_pad([ids, [5, 6, 7]]), **GREEDY)

    def test_some_prompts_closed_and_others_not(self, model):
        with pytest.raises(ValueError, match="some of the prompts end with"):
            model.generate(**left_pad([[5, START], [6, 7]]), generation_mode="image")

    @torch.no_grad()
    @pytest.mark.parametrize("settings", [{}, GUIDED, {**GUIDED, "guidance_scale": 1.0}])
    def test_padding_on_the_right_is_refused_where_it_matters(self, model, settings):
        """A prompt for an image is closed in front of its padding, and not once more behind it."""
        ids, mask = torch.tensor([[5, 6, START, 0], [5, 6, 7, START]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
        if settings is GUIDED:
            left = left_pad([[5, 6, START], [5, 6, 7, START]])
            expected = model.generate(**left, **settings)[:, 4:]
            assert torch.equal(model.generate(ids, attention_mask=mask, **settings)[:, 4:], expected)
        else:
            with pytest.raises(ValueError, match="Pad them on the left" if settings else "generation_mode is 'text'"):
                model.generate(ids[:1], attention_mask=mask[:1], **settings)

    @pytest.mark.parametrize(
        "name, ids",
        [
            ("input_ids", torch.tensor([5, 6])),
            ("input_ids", [[5, 6]]),
            ("input_ids", torch.tensor([[5.0, 6.0]])),
            ("input_ids", torch.zeros(0, 2, dtype=torch.long)),
            ("negative_prompt_ids", torch.tensor([5, START])),
        ],
    )
    def test_what_are_no_ids(self, model, name, ids):
        with pytest.raises(ValueError, match=f"{name} must be a tensor of integers of shape"):
            model.generate(**{"input_ids": torch.tensor([[5]]), name: ids}, **GUIDED)
        if name == "input_ids":
            with pytest.raises(ValueError, match="input_ids must be a tensor of integers of shape"):
                model(ids)

    def test_positions_of_the_caller_are_used(self, model):
        ids = torch.tensor([[5, 6, 7]])
        positions = torch.tensor([[0, 10, 11]])
        new = model.generate(ids, position_ids=positions, **GREEDY)
        assert new.tolist() != model.generate(ids, **GREEDY).tolist()
        for i in range(3, 9):
            so_far = torch.cat([positions, torch.arange(12, 9 + i)[None]], dim=1)
            logits = model(new[:, :i], position_ids=so_far).logits[0, -1, :TEXT_VOCAB]
            assert logits.argmax() == new[0, i]

    def test_positions_that_cannot_be_used_are_refused(self, model, pixel_values):
        with pytest.raises(ValueError, match="position_ids cannot be combined"):
            model.generate(torch.tensor([[START, END]]), pixel_values[:1], position_ids=torch.tensor([[0, 1]]))
        with pytest.raises(ValueError, match="position_ids cannot be combined"):
            model.generate(torch.tensor([[5, START]]), position_ids=torch.tensor([[0, 1]]), **GUIDED)
        with pytest.raises(ValueError, match="position_ids has shape"):
            model.generate(torch.tensor([[5, 6, 7]]), position_ids=torch.tensor([[0, 1]]))
        with pytest.raises(ValueError, match="position_ids has shape"):
            model(torch.tensor([[5, 6, 7]]), position_ids=torch.tensor([[0, 1]]))

    def test_a_language_model_without_positions(self):
        sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.2, "pad_token_id": 0}
        text_config = BloomConfig(vocab_size=TEXT_VOCAB + 26, bos_token_id=1, eos_token_id=EOS, **sizes)
        torch.manual_seed(0)
        config = LaVITConfig(text_config=text_config, visual_tokenizer_config=tiny_config().visual_tokenizer_config)
        model = LaVITForCausalLM(config).eval()
        ids = torch.tensor([[5, 6, 7]])
        alone = model.generate(ids, **GREEDY)
        assert torch.equal(model.generate(**left_pad([[5, 6, 7], [8, 9, 5, 6]]), **GREEDY)[0, 1:], alone[0])
        with pytest.raises(ValueError, match="uses no positions"):
            model(ids, position_ids=torch.arange(3)[None])
        with pytest.raises(ValueError, match="language model without positions"):
            model.generate(ids, position_ids=torch.arange(3)[None])


def pieces(pixel_values):
    """Two ragged batches of prompts, one to follow the other, and their images."""
    first = [[5, START, END, 6], [7, 8], [START, END]]
    second = [[9, 10], [11, START, END, 12], [START, END, 5, START, END]]
    return first, second, pixel_values[[0, 1]], pixel_values[[2, 3, 0]]


class TestCacheEqualsNoCache:
    """The logits of ids behind a cache are those of the whole sequences, each alone."""

    @staticmethod
    @torch.no_grad()
    def check(model, first, second, first_images, second_images, covers):
        head, tail = left_pad(first), left_pad(second)
        cache = model(**head, pixel_values=first_images, use_cache=True).cache
        if covers == "nothing":
            masks = [None] if all(len(ids) == len(second[0]) for ids in second) else []
        else:
            masks = [tail["attention_mask"]]
        if covers == "ids":
            masks = [torch.cat([head["attention_mask"], tail["attention_mask"]], dim=1)]
        if covers == "positions":
            whole = model(**head, pixel_values=first_images).attention_mask
            whole = head["attention_mask"] if whole is None else whole
            masks = [torch.cat([whole, tail["attention_mask"]], dim=1)]
        wholes, images = [], [*(first_images if first_images is not None else [])]
        others = [*(second_images if second_images is not None else [])]
        for a, b in zip(first, second):
            pictures = [images.pop(0) for i in range(a.count(END))] + [others.pop(0) for i in range(b.count(END))]
            pictures = torch.stack(pictures) if pictures else None
            wholes.append(model(torch.tensor([[*a, *b]]), pixel_values=pictures).logits[0, len(a) :])
        for mask in masks:
            onto = copy.deepcopy(cache)
            got = model(tail["input_ids"], second_images, attention_mask=mask, cache=onto).logits
            for row, expected, real in zip(got, wholes, tail["attention_mask"].bool()):
                torch.testing.assert_close(row[real], expected, rtol=0, atol=1e-4)
        return masks

    @pytest.mark.parametrize("covers", ["new", "ids", "positions"])
    def test_text_and_images_in_padded_batches(self, model, pixel_values, covers):
        assert self.check(model, *pieces(pixel_values), covers)

    @pytest.mark.parametrize("covers", ["nothing", "new", "ids", "positions"])
    def test_text_onto_padded_text(self, model, covers):
        assert self.check(model, [[5], [6, 7, 8]], [[9, 10], [11, 12]], None, None, covers)

    @pytest.mark.parametrize("covers", ["nothing", "ids"])
    def test_text_onto_padded_images(self, model, pixel_values, covers):
        first, _, images, _ = pieces(pixel_values)
        assert self.check(model, first, [[9, 10], [11, 12], [5, 6]], images, None, covers)

    @pytest.mark.parametrize("covers", ["new", "positions"])
    def test_golden(self, golden, converted, covers):
        model = LaVITForCausalLM.from_pretrained(converted, dtype=torch.float32).eval()
        model.visual_tokenizer.config.selection = "threshold"
        start, end = model.config.image_start_token_id, model.config.image_end_token_id
        first, second, images, others = pieces(golden.tensors["pixel_values"])
        marks = {START: start, END: end}
        first, second = ([[marks.get(i, i) for i in ids] for ids in prompts] for prompts in (first, second))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("test_generation.END", end)
            assert self.check(model, first, second, images, others, covers)

    @torch.no_grad()
    def test_bundled_checkpoint(self):
        path = bundled_checkpoint()
        model = LaVITForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        model.visual_tokenizer.config.selection = "threshold"
        processor = LaVITProcessor.from_pretrained(path)
        words = processor(text=["hello world", "this is a much longer text"], padding=True, return_tensors="pt")
        emoji = [f"examples/images/emoji/{name}.png" for name in ("tiger", "castle")]
        images = processor(images=emoji, text=["", "a big"], padding=True, return_tensors="pt")
        cache = model(**words, use_cache=True).cache
        got = model(**images, cache=cache).logits[:, -1]
        for i in range(2):
            parts = [batch.input_ids[i][batch.attention_mask[i].bool()] for batch in (words, images)]
            want = model(torch.cat(parts)[None], pixel_values=images.pixel_values[i : i + 1]).logits[0, -1]
            torch.testing.assert_close(got[i], want, rtol=0, atol=1e-4)

    @torch.no_grad()
    def test_an_emptied_cache_holds_nothing(self, model, pixel_values):
        cache = model(**left_pad([[START, END, 5], [6]]), pixel_values=pixel_values[:1], use_cache=True).cache
        cache.reset()
        ids = torch.tensor([[5, 6, 7]])
        assert torch.equal(model(ids, cache=cache).logits, model(ids).logits)
        assert cache.cached_prompt.num_inserted == 0


class TestSecondTurn:
    """`generate` with all ids so far and the cache, against the whole sequence without one."""

    FIRST = [[5, START, END, 6], [START, END]]

    @pytest.fixture(params=["generate", "forward"])
    def first(self, request, model, pixel_values):
        """Ids and cache of a first turn."""
        inputs = {**left_pad(self.FIRST), "pixel_values": pixel_values[:2]}
        if request.param == "generate":
            first = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
            return first.sequences, first.cache
        with torch.no_grad():
            return inputs["input_ids"], model(**inputs, use_cache=True).cache

    @staticmethod
    def go_on(model, ids, text):
        return torch.cat([ids, torch.tensor([text] * len(ids))], dim=1)

    @pytest.mark.parametrize("mask", ["none", "ids"])
    @pytest.mark.parametrize("with_images", [False, True])
    def test_the_cached_images_are_used(self, model, pixel_values, encoded, first, mask, with_images):
        (ids, cache), images = first, pixel_values[:2]
        ids = self.go_on(model, ids, [7, 8])
        expected = model.generate(ids, images, **GREEDY)
        before, length = sum(encoded), cache.get_seq_length()
        settings = {"attention_mask": (ids != 0).long()} if mask == "ids" else {}
        if with_images:
            settings["pixel_values"] = torch.full_like(images, 9.0)  # not looked at
        second = model.generate(ids, cache=cache, return_dict_in_generate=True, **settings, **GREEDY)
        assert torch.equal(second.sequences, expected)
        assert sum(encoded) == before
        assert second.cache is cache
        assert cache.get_seq_length() == length + len(expected[0]) - 1 - (length - cache.cached_prompt.num_inserted)

    @pytest.mark.parametrize("given", ["new", "all"])
    def test_a_third_turn_with_another_image(self, model, pixel_values, encoded, first, given):
        ids, cache = first
        second = model.generate(self.go_on(model, ids, [7, 8]), cache=cache, return_dict_in_generate=True, **GREEDY)
        ids = self.go_on(model, second.sequences, [9, START, END, 10])
        in_order = pixel_values[[0, 2, 1, 3]]  # each row's images together
        expected = model.generate(ids, in_order, **GREEDY)
        before = sum(encoded)
        images = pixel_values[2:] if given == "new" else in_order
        third = model.generate(ids, images, cache=copy.deepcopy(second.cache), **GREEDY)
        assert torch.equal(third, expected)
        assert sum(encoded) == before + 2
        penalized = {"repetition_penalty": 3.0, **GREEDY}
        third = model.generate(ids, images, cache=second.cache, **penalized)
        assert torch.equal(third, model.generate(ids, in_order, **penalized))

    def test_an_image_that_was_begun_goes_on(self, model):
        settings = {"generation_mode": "image", "guidance_scale": 1.0, "do_sample": False, "min_new_tokens": 3}
        whole = model.generate(torch.tensor([[5, START]]), max_new_tokens=6, **settings)
        begun = model.generate(torch.tensor([[5, START]]), max_new_tokens=3, **settings, **OUTPUTS)
        rest = model.generate(begun.sequences, cache=copy.deepcopy(begun.cache), max_new_tokens=3, **settings)
        assert torch.equal(rest, whole)
        mask = torch.ones(1, begun.cache.get_seq_length() + 1, dtype=torch.long)
        with pytest.raises(ValueError, match="Pass all ids so far"):
            model.generate(begun.sequences[:, -1:], attention_mask=mask, cache=begun.cache, **settings)

    def test_patches_are_not_drawn_anew(self, model, pixel_values):
        model.visual_tokenizer.config.selection = "sample"
        settings = {**GREEDY, "return_dict_in_generate": True}
        first = model.generate(**left_pad(self.FIRST), pixel_values=pixel_values[:2], **settings)
        ids = self.go_on(model, first.sequences, [7, 8])
        lengths = set()
        for seed in range(5):
            torch.manual_seed(seed)
            second = model.generate(ids, pixel_values[:2], cache=copy.deepcopy(first.cache), **settings)
            lengths.add((second.cache.get_seq_length(), tuple(second.sequences.flatten().tolist())))
        assert len(lengths) == 1

    def test_ids_that_follow_alone(self, model, pixel_values):
        """As transformers takes them too: with a mask that covers the cache."""
        inputs = {**left_pad(self.FIRST), "pixel_values": pixel_values[:2]}
        outputs = model(**inputs, use_cache=True)
        new = torch.tensor([[7, 8], [7, 8]])
        mask = torch.cat([outputs.attention_mask, torch.ones_like(new)], dim=1)
        expected = model.generate(torch.cat([inputs["input_ids"], new], dim=1), pixel_values[:2], **GREEDY)[:, 6:]
        second = model.generate(new, attention_mask=mask, cache=outputs.cache, return_dict_in_generate=True, **GREEDY)
        assert torch.equal(second.sequences[:, 2:], expected)
        ids = torch.cat([inputs["input_ids"], second.sequences, new], dim=1)
        expected = model.generate(ids, pixel_values[:2], **GREEDY)
        assert torch.equal(model.generate(ids, cache=second.cache, **GREEDY), expected)

    MIXED = [[START, END], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]]

    @torch.no_grad()
    @pytest.mark.parametrize("mask", ["none", "ids"])
    def test_the_longest_prompt_has_no_image(self, model, pixel_values, mask):
        """The mask of the ids is then as long as that of the positions."""
        inputs = {**left_pad(self.MIXED), "pixel_values": pixel_values[:1]}
        first = model.generate(**inputs, **GREEDY, return_dict_in_generate=True)
        assert first.cache.cached_prompt.num_inserted == 0
        ids = self.go_on(model, first.sequences, [7, 8])
        expected = model.generate(ids, pixel_values[:1], **GREEDY)
        settings = {"attention_mask": (ids != 0).long()} if mask == "ids" else {}
        assert torch.equal(model.generate(ids, cache=copy.deepcopy(first.cache), **settings, **GREEDY), expected)
        new = model(ids[:, -3:], cache=first.cache, attention_mask=(ids != 0).long()).logits[:, -1]
        whole = model(ids, pixel_values[:1], attention_mask=(ids != 0).long()).logits[:, -1]
        torch.testing.assert_close(new, whole, rtol=0, atol=1e-4)

    def test_cut_inside_prompts_of_which_the_longest_has_no_image(self, model, pixel_values):
        inputs = {**left_pad(self.MIXED), "pixel_values": pixel_values[:1]}
        cache = model(**inputs, use_cache=True).cache
        cache.crop(-2)
        with pytest.raises(ValueError, match="Cut it after the prompts"):
            model.generate(inputs["input_ids"], cache=cache, **GREEDY)

    def test_beams_keep_their_images(self, model, pixel_values):
        inputs = {**left_pad(self.FIRST), "pixel_values": pixel_values[:2]}
        cache = model(**inputs, use_cache=True).cache
        ids = self.go_on(model, inputs["input_ids"], [7, 8])
        settings = {"num_beams": 3, **GREEDY}
        with pytest.raises(ValueError, match=r"holds 2 sequences, but 6 are .* call its batch_repeat_interleave"):
            model.generate(ids, cache=cache, **settings)
        with pytest.raises(ValueError, match=r"holds 2 sequences, but 1 are .* call its batch_select_indices"):
            model.generate(ids[:1], cache=cache, **GREEDY)
        cache.batch_repeat_interleave(3)
        expected = model.generate(ids, pixel_values[:2], **settings)
        assert torch.equal(model.generate(ids, cache=cache, **settings), expected)

    def test_several_answers_go_on(self, model, pixel_values):
        inputs = {**left_pad(self.FIRST), "pixel_values": pixel_values[:2]}
        torch.manual_seed(0)
        settings = {"num_return_sequences": 2, **GREEDY, "do_sample": True}
        first = model.generate(**inputs, **settings, return_dict_in_generate=True)
        ids = self.go_on(model, first.sequences, [7, 8])
        expected = model.generate(ids, pixel_values[[0, 0, 1, 1]], **GREEDY)
        assert torch.equal(model.generate(ids, cache=copy.deepcopy(first.cache), **GREEDY), expected)
        first.cache.batch_select_indices(torch.tensor([1, 2, 3]))
        with pytest.raises(ValueError, match="attention_mask that covers the cache"):
            model.generate(ids[1:], cache=first.cache, **GREEDY)

    @torch.no_grad()
    def test_sequences_taken_out_of_a_cache(self, model):
        batch = left_pad([[5, 6, 7], [8]])
        cache = model(**batch, use_cache=True).cache
        cache.batch_select_indices(torch.tensor([1]))
        new = torch.tensor([[9]])
        mask = torch.tensor([[0, 0, 1, 1]])
        got = model(new, attention_mask=mask, cache=copy.deepcopy(cache)).logits[:, -1]
        torch.testing.assert_close(got, model(torch.tensor([[8, 9]])).logits[:, -1], rtol=0, atol=1e-5)
        with pytest.raises(ValueError, match="attention_mask that covers the cache"):
            model(new, cache=cache)

    def test_an_image_after_a_conversation(self, model, pixel_values):
        settings = {"generation_mode": "image", "guidance_scale": 1.0, **GREEDY}
        inputs = {"input_ids": torch.tensor([[5, START, END, START]]), "pixel_values": pixel_values[:1]}
        first = model.generate(**inputs, **settings, return_dict_in_generate=True)
        ids = torch.cat([first.sequences, torch.tensor([[END, 6, START]])], dim=1)
        expected = model.generate(ids, pixel_values[:1], **settings)
        assert torch.equal(model.generate(ids, cache=first.cache, **settings), expected)

    def test_a_static_cache(self, model, pixel_values):
        inputs = {"input_ids": torch.tensor([[5, START, END, 6]]), "pixel_values": pixel_values[:1]}
        cache = StaticCache(config=model.config.text_config, max_cache_len=60)
        first = model.generate(**inputs, cache=cache, **GREEDY)
        ids = self.go_on(model, first, [7, 8])
        assert torch.equal(model.generate(ids, cache=cache, **GREEDY), model.generate(ids, pixel_values[:1], **GREEDY))

    def test_the_callers_empty_cache_is_filled(self, model, pixel_values):
        cache = DynamicCache(config=model.config.text_config)
        ids = torch.tensor([[START, END, 5, START]])
        expected = model.generate(ids, pixel_values[:1], **GUIDED)
        assert torch.equal(model.generate(ids, pixel_values[:1], cache=cache, **GUIDED), expected)
        with pytest.raises(ValueError, match="guidance runs a second branch"):
            model.generate(expected, cache=cache, **GUIDED)

    def test_finished_sequences_are_padding(self, model, pixel_values):
        """One prompt ends before the other, and the pads behind its end are in the cache."""
        model.generation_config.eos_token_id = None
        inputs = {**left_pad(self.FIRST), "pixel_values": pixel_values[:2]}
        ids = model.generate(**inputs, **GREEDY)
        end = ids[0, 5].item()
        assert end not in ids[1, 4:]
        settings = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": end}
        first = model.generate(**inputs, **settings, return_dict_in_generate=True)
        assert (first.sequences[0, 6:] == 0).all()
        ids = self.go_on(model, first.sequences, [7, 8])
        expected = model.generate(ids, pixel_values[:2], **GREEDY)
        assert torch.equal(model.generate(ids, cache=first.cache, **GREEDY), expected)

    @torch.no_grad()
    def test_ids_and_cache_do_not_fit(self, model, pixel_values):
        inputs = {**left_pad(self.FIRST), "pixel_values": pixel_values[:2]}
        cache = model(**inputs, use_cache=True).cache
        ids = self.go_on(model, inputs["input_ids"], [7, 8])
        others = ids.clone()
        others[0, 1:3] = 7
        for message, settings in {
            "only 4 were passed": {"input_ids": ids[:, :4]},
            "holds 2 images, but .* have 1 image slots": {"input_ids": others},
            "holds 2 sequences, but 1 are": {"input_ids": ids[:1]},
            "have 0 image slots, but 1 images": {"input_ids": ids, "pixel_values": pixel_values[:1]},
            "must cover the prompts": {"input_ids": ids, "attention_mask": torch.ones(2, 5, dtype=torch.long)},
        }.items():
            with pytest.raises(ValueError, match=message):
                model.generate(cache=copy.deepcopy(cache), **settings, **GREEDY)
        cache.crop(-2)
        with pytest.raises(ValueError, match="inside prompts of"):
            model.generate(ids, cache=cache, **GREEDY)

    @torch.no_grad()
    def test_positions_behind_a_cache(self, model, pixel_values):
        """For the ids that follow, or for all positions; those of the ids alone leave out the images."""
        ids = torch.tensor([[START, END, 5]])
        cache = model(ids, pixel_values[:1], use_cache=True).cache
        length, ids = cache.get_seq_length(), self.go_on(model, ids, [7, 8])
        expected = model.generate(ids, cache=copy.deepcopy(cache), **GREEDY)
        others = model.generate(ids, cache=copy.deepcopy(cache), position_ids=torch.tensor([[30, 40]]), **GREEDY)
        assert others.tolist() != expected.tolist()
        for position_ids in (torch.arange(length, length + 2)[None], torch.arange(length + 2)[None]):
            got = model.generate(ids, cache=copy.deepcopy(cache), position_ids=position_ids, **GREEDY)
            assert torch.equal(got, expected)
        with pytest.raises(ValueError, match="position_ids has shape"):
            model.generate(ids, cache=cache, position_ids=torch.arange(5)[None], **GREEDY)

    def test_what_reads_ids_alone_refuses_a_cache(self, model, pixel_values):
        ids = torch.tensor([[5, 6]])
        cache = model(ids, use_cache=True).cache
        ids = self.go_on(model, ids, [7, 8])
        for settings in ({"prompt_lookup_num_tokens": 2}, {"prefill_chunk_size": 1}):
            with pytest.raises(ValueError, match="prompts without images"):
                model.generate(ids, cache=cache, **settings, **GREEDY)


class OurWaits(TorchDispatchMode):
    """Counts the times that code of ours waits for the device to tell a value."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            callers = [frame.filename for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
            self.count += "lavit_hf/lavit" in callers[-2]  # the last is this file
        return func(*args, **(kwargs or {}))


def test_whatever_form_outputs_have(model, pixel_values):
    """`return_dict` is about what the caller gets of `forward`."""
    ids = torch.tensor([[START, END, 5]])
    expected = model.generate(ids, pixel_values[:1], **GREEDY)
    model.config.return_dict = False
    assert torch.equal(model.generate(ids, pixel_values[:1], **GREEDY), expected)


def test_prompt_learning_is_refused(model):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    learned = peft.get_peft_model(model, config).eval()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"can't generate after prompt learning .* such as LoRA"):
            learned.generate(input_ids=torch.tensor([[5, 6]]), **GREEDY)
    assert model.generate(torch.tensor([[5, 6]]), **GREEDY).shape == (1, 8)


class TestDecodingSteps:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"repetition_penalty": 2.0, "no_repeat_ngram_size": 2},
            {"num_beams": 2},
            {"use_cache": False},
            {"cache_implementation": "static"},
            {"generation_mode": "image", "guidance_scale": 3.0},
            {"prompt_lookup_num_tokens": 2},
        ],
    )
    def test_no_step_waits_for_the_device(self, model, settings):
        prompts = [[5, 6, 5, 6]] if "prompt_lookup_num_tokens" in settings else [[5, 6, 7], [8]]
        counts = []
        for num_tokens in (3, 9):
            with OurWaits() as waits:
                model.generate(
                    **left_pad(prompts), **settings, **GREEDY | {"max_new_tokens": num_tokens, "min_new_tokens": 3}
                )
            counts.append(waits.count)
        assert counts[0] == counts[1] > 0

    @pytest.mark.slow
    @pytest.mark.parametrize("prompts", [[[5, 6, 7]], [[5, 6, 7], [8]]])
    def test_prompt_and_steps_compile_as_one_graph(self, model, prompts):
        settings = {**left_pad(prompts), "cache_implementation": "static", **GREEDY}
        expected = model.generate(**settings)
        model.forward = torch.compile(model.forward, backend="eager", fullgraph=True)
        assert torch.equal(model.generate(**settings), expected)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The language model that reads and writes images: equal to the released one, and well behaved on its own."""

import copy
import math
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessor,
    StoppingCriteria,
)
from transformers.generation.streamers import BaseStreamer

from conftest import tiny_visual_config
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITImageProcessorPil,
    LaVITProcessor,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerOutput,
)


PARITY = {"rtol": 0, "atol": 1e-4}

TEXT_VOCAB = 40
START, END, FIRST_CODE = TEXT_VOCAB, TEXT_VOCAB + 1, TEXT_VOCAB + 2
EOS = 2


def tiny_config(**kwargs) -> LaVITConfig:
    text_config = LlamaConfig(
        vocab_size=TEXT_VOCAB + 2 + 24,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=EOS,
    )
    visual_config = tiny_visual_config(selection="threshold", merger_softmax="masked")
    return LaVITConfig(text_config=text_config, visual_tokenizer_config=visual_config, **kwargs)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LaVITForCausalLM(tiny_config()).eval()


@pytest.fixture
def pixel_values():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def left_pad(sequences, pad=0):
    longest = max(map(len, sequences))
    ids = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in sequences])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in sequences])
    return {"input_ids": ids, "attention_mask": mask}


class TestParity:
    """Against what the released implementation gives for the golden checkpoint, through the public API."""

    @pytest.fixture(scope="class", params=["eager", "sdpa"])
    def golden_model(self, request, converted):
        return LaVITForCausalLM.from_pretrained(converted, dtype=torch.float32, attn_implementation=request.param)

    @pytest.fixture(scope="class")
    def processor(self, converted):
        # Pillow's backend gives the original's pixels exactly.
        image_processor = LaVITImageProcessorPil.from_pretrained(converted)
        return LaVITProcessor(image_processor, AutoTokenizer.from_pretrained(converted))

    @staticmethod
    def prompts(run):
        if run["kind"] == "vqa":
            return [run["template"].format(question) for question in run["questions"]]
        return [run.get("prompt", "")] * len(run["images"])

    def inputs(self, golden, processor, run):
        images = [str(path) for path in golden.image_paths]
        return processor(images=images, text=self.prompts(run), return_tensors="pt")

    @torch.no_grad()
    def test_understanding_features(self, golden, golden_model):
        torch.manual_seed(golden.facts["understanding_mask_seed"])
        outputs = golden_model.get_image_features(golden.tensors["pixel_values"])
        rows = torch.cat(outputs.pooler_output)
        torch.testing.assert_close(rows, golden.tensors["understanding.visual_embeds"], **PARITY)

    @torch.no_grad()
    def test_left_padded_images(self, golden, golden_model):
        """`[IMG]`, rows and `[/IMG]` of each image, padded on the left."""
        slots = torch.tensor([[32000, 32001]] * 4)
        embeds = []
        hook = golden_model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: embeds.append(kwargs["inputs_embeds"]), with_kwargs=True
        )
        torch.manual_seed(golden.facts["understanding_mask_seed"])
        outputs = golden_model(slots, pixel_values=golden.tensors["pixel_values"])
        hook.remove()
        mask = golden.tensors["understanding.image_attention_mask"]
        assert torch.equal(outputs.attention_mask, mask)
        expected = golden.tensors["understanding.image_embeds_left_padded"]
        torch.testing.assert_close(embeds[0][mask.bool()], expected[mask.bool()], **PARITY)

    @pytest.mark.parametrize("number", [0, 1, 2])
    @torch.no_grad()
    def test_embeddings_and_logits(self, golden, golden_model, processor, number):
        run = golden.facts["understanding_runs"][number]
        inputs = self.inputs(golden, processor, run)
        torch.manual_seed(golden.facts["understanding_mask_seed"])
        outputs = golden_model(**inputs)
        torch.testing.assert_close(outputs.logits[:, -1], golden.tensors[f"run{number}.last_logits"], **PARITY)
        lengths = golden.tensors[f"run{number}.attention_mask"].sum(dim=1)
        assert torch.equal(outputs.attention_mask.sum(dim=1), lengths)

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_understanding_runs(self, golden, golden_model, processor, number):
        run = golden.facts["understanding_runs"][number]
        inputs = self.inputs(golden, processor, run)
        torch.manual_seed(golden.facts["understanding_mask_seed"])
        self.check_run(run, processor, golden_model.generate(**inputs, **self.settings(run)), inputs, range(4))

    @pytest.mark.parametrize("number", [0, 2])
    def test_understanding_one_by_one(self, golden, golden_model, processor, number):
        run = golden.facts["understanding_runs"][number]
        masks = golden.tensors["understanding.keep_mask"]
        for i in range(4):
            inputs = processor(images=str(golden.image_paths[i]), text=self.prompts(run)[i], return_tensors="pt")
            rows = golden_model.get_image_features(inputs["pixel_values"], keep_mask=masks[i : i + 1])
            # The draw of a batch cannot be repeated for one image, so its mask is handed over.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(golden_model, "get_image_features", lambda *args, rows=rows, **kwargs: rows)
                ids = golden_model.generate(**inputs, **self.settings(run))
            self.check_run(run, processor, ids, inputs, [i])

    @staticmethod
    def settings(run):
        return {
            "num_beams": run["num_beams"],
            "max_new_tokens": run["max_new_tokens"],
            "min_new_tokens": run["min_new_tokens"],
            "length_penalty": float(run["length_penalty"]),
            "early_stopping": run["kind"] == "vqa",
            "do_sample": False,
        }

    @staticmethod
    def check_run(run, processor, ids, inputs, samples):
        new_ids = ids[:, inputs["input_ids"].shape[1] :]
        # The released implementation starts from a BOS that it never feeds to the model.
        assert new_ids.tolist() == [run["output_ids"][i][1:] for i in samples]
        texts = processor.post_process_image_text_to_text(new_ids)
        clean = processor.post_process_answer if run["kind"] == "vqa" else processor.post_process_caption
        assert clean(texts) == [run["text"][i] for i in samples]

    @torch.no_grad()
    def test_image_token_ids(self, golden, golden_model):
        torch.manual_seed(golden.facts["mask_seed"])
        tokens = golden_model.get_image_tokens(golden.tensors["pixel_values"])
        assert [image.tolist() for image in tokens] == golden.facts["image_token_ids"]

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_image_generation(self, golden, golden_model, processor, number):
        run = golden.facts["generation_runs"][number]
        inputs = processor(text=run["prompts"], generation_mode="image", return_tensors="pt")
        self.check_images(golden_model, inputs, run, run["max_new_tokens"])

    def test_image_generation_one_by_one(self, golden, golden_model, processor):
        run = golden.facts["generation_runs"][0]
        for prompt, ids in zip(run["prompts"], run["output_ids"]):
            inputs = processor(text=prompt, generation_mode="image", return_tensors="pt")
            self.check_images(golden_model, inputs, {**run, "output_ids": [ids]}, run["max_new_tokens"])

    @pytest.mark.parametrize("as_picture", [False, True])
    def test_image_and_text_to_image(self, golden, golden_model, processor, as_picture):
        """The image in the prompt as ids, and as the image that these ids come from."""
        run = golden.facts["generation_runs"][3]
        ids = torch.tensor([[*run["prompt_ids"], 32000]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if as_picture:
            text = golden.facts["generation_runs"][0]["prompts"][0]
            picture = str(golden.image_paths[3])
            inputs = processor(images=picture, text=text, generation_mode="image", return_tensors="pt")
            first_code = golden_model.config.first_code_token_id
            codes = torch.tensor([id - first_code for id in run["prompt_ids"] if id >= first_code])
            outputs = LaVITVisualTokenizerOutput(codes=[codes])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(golden_model, "tokenize_images", lambda *args, **kwargs: outputs)
                self.check_images(golden_model, inputs, run, 24)
        else:
            self.check_images(golden_model, inputs, run, 24)

    @staticmethod
    def check_images(model, inputs, run, max_new_tokens):
        ids = model.generate(
            **inputs,
            generation_mode="image",
            guidance_scale=run["guidance_scale"],
            do_sample=False,
            min_new_tokens=run["min_new_tokens"],
            max_new_tokens=max_new_tokens,
            strict_image_tokens=False,
        )
        assert ids[:, inputs["input_ids"].shape[1] - 1 :].tolist() == run["output_ids"]


class TestForward:
    @torch.no_grad()
    def test_slots_are_filled_wherever_they_stand(self, model, pixel_values):
        """Two images in one sample, none in the next, one at the end of the third, ragged and padded."""
        batch = left_pad([[5, START, END, 6, START, END, 7], [8, 9], [10, START, END]])
        outputs = model(**batch, pixel_values=pixel_values)
        rows = outputs.image_outputs.pooler_output
        embed = model.get_input_embeddings()
        start, end = embed(torch.tensor([START])), embed(torch.tensor([END]))
        two, one = len(rows[0]), len(rows[2])

        def text(*ids):
            return embed(torch.tensor(ids))

        written_out = [
            torch.cat([text(5), start, rows[0], end, text(6), start, rows[1], end, text(7)]),
            text(8, 9),
            torch.cat([text(10), start, rows[2], end]),
        ]
        texts = [[0, 1, two + 2, two + 3, two + 4, -2, -1], [0, 1], [0, 1, one + 2]]  # where ids and not rows stand
        assert [mask.sum() for mask in outputs.attention_mask] == [len(embeds) for embeds in written_out]
        for logits, mask, embeds, text in zip(outputs.logits, batch["attention_mask"], written_out, texts):
            alone = model(inputs_embeds=embeds[None]).logits[0]
            torch.testing.assert_close(logits[mask.bool()], alone[text], rtol=0, atol=1e-5)

    @torch.no_grad()
    def test_padding_side_does_not_matter(self, model, pixel_values):
        ids = torch.tensor([[START, END, 5, 6], [START, END, 7, 0]])
        mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
        right = model(ids, pixel_values[:2], attention_mask=mask)
        batch = left_pad([[START, END, 5, 6], [START, END, 7]])
        left = model(**batch, pixel_values=pixel_values[:2])
        torch.testing.assert_close(right.logits[mask.bool()], left.logits[batch["attention_mask"].bool()])

    def test_loss_covers_text_and_image_ids_but_no_condition(self, model, pixel_values):
        """`[image, text]` counts the text, `[text, image]` text and image ids."""
        read = [START, END, 5, 6, EOS]
        write = [5, 6, START, FIRST_CODE, FIRST_CODE + 3, END, EOS]
        batch = left_pad([read, write])
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        outputs = model(**batch, pixel_values=pixel_values[:1], labels=labels)
        log_probs = outputs.logits.log_softmax(dim=-1)
        picked = [log_probs[0, i - 1, label] for i, label in zip(range(-3, 0), read[2:])]
        picked += [log_probs[1, i - 1, label] for i, label in zip(range(-6, 0), write[1:])]
        assert outputs.loss.item() == pytest.approx(-torch.stack(picked).mean().item(), abs=1e-5)
        outputs.loss.backward()
        assert model.understanding.merger.layers[0].mlp.expansion.weight.grad.abs().max() > 0
        assert model.get_input_embeddings().weight.grad[FIRST_CODE].abs().max() > 0

    @torch.no_grad()
    def test_loss_of_embeddings_is_that_of_their_ids(self, model, pixel_values):
        ids = torch.tensor([[5, START, END, 6]])
        inputs = {"inputs_embeds": model.get_input_embeddings()(ids), "pixel_values": pixel_values[:1], "labels": ids}
        assert torch.equal(model(**inputs).loss, model(ids, pixel_values[:1], labels=ids).loss)

    @torch.no_grad()
    def test_patches_of_the_caller_are_kept(self, model, pixel_values):
        ids = torch.tensor([[5, START, END, 6]])
        keep_mask = torch.zeros(1, 16, dtype=torch.bool)
        keep_mask[0, 3] = True
        outputs = model(ids, pixel_values[:1], keep_mask=keep_mask)
        assert torch.equal(outputs.image_outputs.keep_mask, keep_mask)

    def test_one_sample_has_one_loss_whatever_stands_beside_it(self, model, pixel_values):
        text, longer = [5, 6, 7], [START, END, 8, 9]
        losses = []
        for picture, other in ((None, [8, 9, 10, 11]), (pixel_values[:1], longer)):
            batch = left_pad([text, other])
            labels = batch["input_ids"].clone()
            labels[1] = -100
            labels = labels.masked_fill(batch["attention_mask"] == 0, -100)
            losses.append(model(**batch, pixel_values=picture, labels=labels).loss)
        torch.testing.assert_close(*losses)

    def test_gradient_checkpointing_changes_no_gradient(self, model, pixel_values):
        gradients = []
        for checkpointing in (False, True):
            trained = copy.deepcopy(model).train()
            if checkpointing:
                trained.activation_checkpointing_enable()
            batch = left_pad([[START, END, 5, 6]])
            trained(**batch, pixel_values=pixel_values[:1], labels=batch["input_ids"]).loss.backward()
            gradients.append(trained.understanding.projection.weight.grad)
        torch.testing.assert_close(*gradients)

    @torch.no_grad()
    def test_slots_are_found_in_embeddings_too(self, model, pixel_values):
        ids = torch.tensor([[5, START, END, 6]])
        from_ids = model(ids, pixel_values[:1])
        from_embeds = model(inputs_embeds=model.get_input_embeddings()(ids), pixel_values=pixel_values[:1])
        assert torch.equal(from_ids.logits, from_embeds.logits)

    def test_own_selector_for_understanding(self, pixel_values):
        torch.manual_seed(0)
        model = LaVITForCausalLM(tiny_config(understanding_selector=True)).eval()
        with torch.no_grad():
            model.understanding.selector.classifier[-1].bias.copy_(torch.tensor([-50.0, 50.0]))
        assert [len(rows) for rows in model.get_image_features(pixel_values).pooler_output] == [1, 1, 1]
        assert max(map(len, model.get_image_tokens(pixel_values))) > 3

    def test_shared_merger_reads_the_same(self, pixel_values, tmp_path):
        """As one of its own with the same weights, saved and loaded too. It is frozen like the visual tokenizer."""
        config = tiny_config()
        config.visual_tokenizer_config.selection = "threshold"
        own = LaVITForCausalLM(config).eval()
        own.understanding.merger.load_state_dict(own.visual_tokenizer.merger.state_dict())
        config = copy.deepcopy(config)
        config.understanding_merger = False
        shared = LaVITForCausalLM(config).eval()
        assert shared.understanding.merger is None
        result = shared.load_state_dict(own.state_dict(), strict=False)
        assert not result.missing_keys
        assert all(name.startswith("model.understanding.merger.") for name in result.unexpected_keys)
        shared.save_pretrained(tmp_path)
        for model in (shared, LaVITForCausalLM.from_pretrained(tmp_path)):
            for rows, expected in zip(
                model.get_image_features(pixel_values).pooler_output,
                own.get_image_features(pixel_values).pooler_output,
                strict=True,
            ):
                assert torch.equal(rows, expected)
        sum(rows.sum() for rows in shared.train().get_image_features(pixel_values).pooler_output).backward()
        trained = {name for name, parameter in shared.named_parameters() if parameter.grad is not None}
        assert trained == {f"model.understanding.projection.{name}" for name in ("weight", "bias")}

    def test_shared_merger_needs_the_shared_selector(self):
        with pytest.raises(ValueError, match="keep understanding_merger=True"):
            tiny_config(understanding_selector=True, understanding_merger=False)

    def test_selector_that_reads_some_channels_is_shared(self, pixel_values):
        """Both ways of reading keep the same patches, as many as the selector says."""
        torch.manual_seed(0)
        config = tiny_config()
        config.visual_tokenizer_config.selection = "threshold"
        config.visual_tokenizer_config.selector_feature_size = 20
        model = LaVITForCausalLM(config).eval()
        counts = model.model.visual_tokenizer(pixel_values).keep_mask.sum(dim=1).tolist()
        assert [len(rows) for rows in model.get_image_features(pixel_values).pooler_output] == counts

    def test_encoder_is_shared(self, model, tmp_path):
        names = [name for name, _ in model.named_parameters() if "patch_embedding" in name]
        assert names == [
            "model.visual_tokenizer.encoder.model.embeddings.patch_embedding." + n for n in ("weight", "bias")
        ]


class TestGenerate:
    def test_prompt_comes_back_as_it_was_given(self, model, pixel_values):
        batch = left_pad([[START, END, 5, 6], [7]])
        ids = model.generate(**batch, pixel_values=pixel_values[:1], max_new_tokens=5, min_new_tokens=5)
        assert torch.equal(ids[:, :4], batch["input_ids"])
        assert ids.shape == (2, 9)
        assert (ids[:, 4:] < TEXT_VOCAB).all()

    @pytest.mark.parametrize("mode", ["text", "image"])
    def test_mixed_batch_equals_one_by_one(self, model, pixel_values, mode):
        tail = [START] if mode == "image" else []
        prompts = [[START, END, 5, 6, *tail], [7, *tail], [8, START, END, 9, START, END, *tail]]
        images = [pixel_values[:1], None, pixel_values[1:]]
        settings = {"generation_mode": mode, "do_sample": False, "max_new_tokens": 8, "min_new_tokens": 2}
        batch = model.generate(**left_pad(prompts), pixel_values=pixel_values, **settings)
        for prompt, picture, ids in zip(prompts, images, batch):
            alone = model.generate(**left_pad([prompt]), pixel_values=picture, **settings)[0, len(prompt) :]
            together = ids[-8:] if len(ids) > 8 else ids
            assert together[: len(alone)].tolist() == alone.tolist()

    @pytest.mark.parametrize("settings", [{}, {"do_sample": True}, {"num_beams": 3}, {"num_return_sequences": 2}])
    @pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
    def test_image_mode_writes_codes_until_the_end(self, model, settings, guidance_scale):
        settings = {"do_sample": "num_return_sequences" in settings, **settings}
        ids = model.generate(
            **left_pad([[5, START], [6, 7, START]]),
            generation_mode="image",
            guidance_scale=guidance_scale,
            max_new_tokens=12,
            min_new_tokens=4,
            **settings,
        )
        for sequence in ids[:, 3:].tolist():
            image = sequence[: sequence.index(END)] if END in sequence else sequence
            assert len(image) >= 4
            assert all(i >= FIRST_CODE for i in image)

    @pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
    def test_an_image_ends_when_it_has_a_code_for_each_patch(self, model, guidance_scale):
        ids = model.generate(
            **left_pad([[5, START], [START]]),
            generation_mode="image",
            guidance_scale=guidance_scale,
            min_new_tokens=30,
            max_new_tokens=30,
        )
        num_patches = model.config.visual_tokenizer_config.num_patches
        assert (ids[:, 2 : 2 + num_patches] >= FIRST_CODE).all()
        assert (ids[:, 2 + num_patches] == END).all()

    @pytest.mark.parametrize("strict", [True, False])
    def test_strict_image_tokens(self, model, strict):
        class Favor(LogitsProcessor):
            def __call__(self, input_ids, scores):
                self.open = scores.isfinite()[0]
                return scores

        processor = Favor()
        model.generate(
            **left_pad([[5, START]]),
            generation_mode="image",
            max_new_tokens=2,
            min_new_tokens=0,
            strict_image_tokens=strict,
            logits_processor=[processor],
        )
        allowed = processor.open.nonzero().flatten().tolist()
        assert allowed == ([] if strict else [0, 1, 2, START]) + list(range(END, FIRST_CODE + 24))

    def test_guidance_is_the_formula_over_two_separate_passes(self, model):
        """One doubled pass with its own cache for each branch, against each branch run from scratch at every step."""
        scale, negative = 3.0, [9, 9, START]
        prompt = left_pad([[5, 6, 7, START], [8, START]])
        outputs = model.generate(
            **prompt,
            generation_mode="image",
            guidance_scale=scale,
            negative_prompt_ids=torch.tensor([negative] * 2),
            do_sample=False,
            max_new_tokens=6,
            min_new_tokens=6,
            return_dict_in_generate=True,
            output_logits=True,
        )
        new_ids = outputs.sequences[:, 4:]
        for sample, ids in enumerate([[5, 6, 7, START], [8, START]]):
            for step in range(6):
                branches = [
                    model(torch.tensor([[*start, *new_ids[sample, :step].tolist()]])).logits[0, -1].log_softmax(-1)
                    for start in (ids, negative)
                ]
                expected = scale * (branches[0] - branches[1]) + branches[1]
                torch.testing.assert_close(outputs.logits[step][sample], expected, rtol=0, atol=1e-4)

    def test_one_forward_pass_a_step_and_the_eyes_open_once(self, model, pixel_values):
        counts = {"language": 0, "encoder": 0}
        handles = [
            module.register_forward_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
            for name, module in (("language", model.language_model), ("encoder", model.visual_tokenizer.encoder))
        ]
        model.generate(
            **left_pad([[5, START, END, START]]),
            pixel_values=pixel_values[:1],
            generation_mode="image",
            guidance_scale=3.0,
            max_new_tokens=6,
            min_new_tokens=6,
        )
        for handle in handles:
            handle.remove()
        assert counts == {"language": 6, "encoder": 1}

    def test_guided_beams_follow_their_caches(self, model):
        """A beam's score is that of its sequence computed from scratch."""
        outputs = model.generate(
            **left_pad([[5, 6, START]]),
            generation_mode="image",
            guidance_scale=2.0,
            num_beams=4,
            do_sample=False,
            max_new_tokens=5,
            min_new_tokens=5,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        new_ids = outputs.sequences[0, 3:].tolist()
        total = 0.0
        for step, chosen in enumerate(new_ids):
            branches = [
                model(torch.tensor([[*start, *new_ids[:step]]])).logits[0, -1].log_softmax(-1)
                for start in ([5, 6, START], [START])
            ]
            total += (2 * branches[0] - branches[1]).log_softmax(-1)[chosen].item()
        assert outputs.sequences_scores[0].item() == pytest.approx(total, abs=1e-3)

    def test_callers_processors_criteria_and_streamer_are_kept(self, model, pixel_values):
        class Only(LogitsProcessor):
            def __call__(self, input_ids, scores):
                return torch.full_like(scores, -math.inf).index_fill(1, torch.tensor([11]), 0.0)

        class AfterThree(StoppingCriteria):
            def __call__(self, input_ids, scores, **kwargs):
                return torch.full((input_ids.shape[0],), input_ids.shape[1] >= 6)

        class Collect(BaseStreamer):
            def __init__(self):
                self.seen = []

            def put(self, value):
                self.seen += value.flatten().tolist()

            def end(self):
                self.ended = True

        streamer = Collect()
        ids = model.generate(
            **left_pad([[START, END, 5]]),
            pixel_values=pixel_values[:1],
            logits_processor=[Only()],
            stopping_criteria=[AfterThree()],
            streamer=streamer,
            max_new_tokens=20,
        )
        assert ids.tolist() == [[START, END, 5, 11, 11, 11]]
        assert streamer.seen == ids[0].tolist() and streamer.ended

    @pytest.mark.parametrize("mode", ["text", "image"])
    def test_static_cache_gives_the_same(self, model, pixel_values, mode):
        last = START if mode == "image" else 7
        batch = left_pad([[START, END, 5, last], [6, last]])
        settings = {"generation_mode": mode, "do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6}
        dynamic = model.generate(**batch, pixel_values=pixel_values[:1], **settings)
        static = model.generate(**batch, pixel_values=pixel_values[:1], cache_implementation="static", **settings)
        assert torch.equal(dynamic, static)

    def test_image_defaults_yield_to_the_caller(self, model):
        model.generation_config.image_generation = {"do_sample": False, "max_new_tokens": 3, "guidance_scale": 1.0}
        batch = left_pad([[5, START]])
        assert model.generate(**batch, generation_mode="image", min_new_tokens=3).shape[1] == 5
        assert model.generate(**batch, generation_mode="image", max_new_tokens=7, min_new_tokens=7).shape[1] == 9

    @pytest.mark.slow
    def test_compiled_decoding_gives_the_same(self, model):
        batch = left_pad([[5, 6, 7]])
        settings = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5, "cache_implementation": "static"}
        expected = model.generate(**batch, **settings)
        model.language_model.forward = torch.compile(model.language_model.forward, backend="aot_eager")
        assert torch.equal(model.generate(**batch, **settings), expected)


class TestGenerationConfig:
    """Whose wish counts: the caller's before the mode's before the model's."""

    PROMPT = {"input_ids": torch.tensor([[5, 6, START]])}

    def test_guidance_stored_in_the_model_is_applied_once(self, model):
        settings = {"generation_mode": "image", "do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4}
        expected = model.generate(**self.PROMPT, guidance_scale=3.0, **settings)
        unguided = model.generate(**self.PROMPT, guidance_scale=1.0, **settings)
        model.generation_config.image_generation = {}
        model.generation_config.guidance_scale = 3.0
        calls = []
        hook = model.language_model.register_forward_hook(lambda *_: calls.append(1))
        assert torch.equal(model.generate(**self.PROMPT, **settings), expected)
        hook.remove()
        assert len(calls) == 4
        assert torch.equal(model.generate(**self.PROMPT, guidance_scale=1.0, **settings), unguided)

    def test_a_copy_of_the_models_own_object_changes_nothing(self, model):
        model.generation_config.num_beams, model.generation_config.max_new_tokens = 2, 3
        own = copy.deepcopy(model.generation_config)
        settings = {"generation_mode": "image", "do_sample": False, "guidance_scale": 1.0}
        expected = model.generate(**self.PROMPT, **settings)
        assert torch.equal(model.generate(**self.PROMPT, generation_config=own, **settings), expected)
        assert (expected[:, 3:] >= END).all()

    @pytest.mark.parametrize("as_object", [False, True])
    def test_lengths_count_the_prompt_as_it_was_given(self, model, pixel_values, as_object):
        ids = torch.tensor([[START, END, 5, 6]])
        lengths = {"max_length": 9, "min_length": 9}
        wishes = {"generation_config": GenerationConfig(**lengths)} if as_object else lengths
        assert model.generate(ids, pixel_values[:1], **wishes).shape[1] == 9
        image = model.generate(**self.PROMPT, generation_mode="image", **wishes)
        assert image.shape[1] == 9

    def test_embeddings_in_place_of_ids(self, model, pixel_values):
        ids = torch.tensor([[START, END, 5, START]])
        embeds = model.get_input_embeddings()(ids)
        settings = {"generation_mode": "image", "do_sample": False, "max_new_tokens": 4, "min_new_tokens": 4}
        expected = model.generate(ids, pixel_values[:1], **settings)[:, 4:]
        new = model.generate(inputs_embeds=embeds, pixel_values=pixel_values[:1], **settings)
        assert torch.equal(new, expected)
        both = model.generate(ids, pixel_values[:1], inputs_embeds=embeds, **settings)
        assert torch.equal(both[:, 4:], expected)

    @pytest.mark.parametrize("mode", ["text", "image"])
    def test_a_generator_is_the_source_of_all_draws(self, model, pixel_values, mode):
        model.config.visual_tokenizer_config.selection = "sample"
        ids = torch.tensor([[START, END, 5, START if mode == "image" else 7]])
        settings = {"generation_mode": mode, "do_sample": True, "max_new_tokens": 8, "min_new_tokens": 8}

        def run(seed):
            return model.generate(
                ids, pixel_values[:1], generator=torch.Generator().manual_seed(seed), **settings
            ).tolist()

        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        assert run(1) == run(1) != run(2)
        assert torch.equal(torch.rand(1), expected)  # the global state is untouched

    def test_a_stored_least_length_gives_way(self, model, recwarn):
        model.generation_config.min_new_tokens = 9
        assert model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=3).shape[1] <= 6
        assert not [warning for warning in recwarn if "Unfeasible" in str(warning.message)]

    def test_assisted_decoding_is_refused_with_images(self, model, pixel_values):
        with pytest.raises(ValueError, match="assisted decoding"):
            model.generate(torch.tensor([[START, END, 5]]), pixel_values[:1], prompt_lookup_num_tokens=2)

    def test_beams_over_a_hybrid_language_model(self):
        text_config = AutoConfig.for_model(
            "qwen3_next",
            vocab_size=TEXT_VOCAB + 26,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            num_experts=2,
            num_experts_per_tok=1,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
            linear_num_value_heads=2,
            linear_num_key_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        model = LaVITForCausalLM(LaVITConfig(text_config=text_config, visual_tokenizer_config=tiny_visual_config()))
        ids = model.eval().generate(torch.tensor([[5, 6]]), num_beams=2, max_new_tokens=3, min_new_tokens=3)
        assert ids.shape == (1, 5)


def tiny_clip() -> CLIPVisionModel:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=8))


class TestBackbones:
    def test_from_backbones(self, pixel_values):
        vision = tiny_clip()
        text = GPT2LMHeadModel(
            GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
        )
        old = text.get_input_embeddings().weight.detach().clone()
        model = LaVITForCausalLM.from_backbones(
            vision,
            text,
            codebook_size=24,
            codebook_dim=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            selection="threshold",
        ).eval()
        config = model.config
        assert (config.text_vocab_size, config.image_start_token_id, config.text_config.vocab_size) == (50, 50, 76)
        new = model.get_input_embeddings().weight
        assert torch.equal(new[:50], old)
        assert (new[50:].mean(dim=0) - old.mean(dim=0)).abs().max() < 0.05
        ids = model.generate(
            torch.tensor([[50, 51, 5]]), pixel_values=pixel_values[:1], max_new_tokens=3, min_new_tokens=3
        )
        assert ids.shape == (1, 6) and (ids[:, 3:] < 50).all()

    def test_from_backbones_of_other_dtypes(self, model, pixel_values):
        vision = copy.deepcopy(model.visual_tokenizer.encoder.model).to(torch.bfloat16)
        text = LlamaForCausalLM(copy.deepcopy(model.config.text_config))
        text.generation_config.temperature = 0.5
        grown = LaVITForCausalLM.from_backbones(
            vision, text, codebook_size=8, num_attention_heads=2, encoder_final_norm=True
        )
        assert grown.dtype == torch.float32 and grown.generation_config.temperature == 0.5
        assert grown.get_image_features(pixel_values).pooler_output[0].dtype == torch.float32

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", [str, Path])
    def test_from_backbones_on_disk(self, tmp_path, kind):
        LlamaForCausalLM(tiny_config().text_config).save_pretrained(tmp_path / "text")
        tiny_clip().save_pretrained(tmp_path / "vision")
        grown = LaVITForCausalLM.from_backbones(
            kind(tmp_path / "vision"), kind(tmp_path / "text"), codebook_size=8, num_attention_heads=2
        )
        grown.save_pretrained(tmp_path / "lavit")
        again = LaVITForCausalLM.from_pretrained(tmp_path / "lavit")
        for name, value in grown.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name

    @pytest.mark.parametrize("text_model", ["gemma2", "qwen2", "opt", "gpt_neox"])
    def test_any_causal_language_model(self, text_model, pixel_values):
        text_config = AutoConfig.for_model(
            text_model,
            vocab_size=TEXT_VOCAB + 26,
            hidden_size=32,
            intermediate_size=64,
            ffn_dim=64,
            word_embed_proj_dim=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        config = LaVITConfig(text_config=text_config, visual_tokenizer_config=tiny_visual_config())
        model = LaVITForCausalLM(config).eval()
        ids = model.generate(**left_pad([[START, END, 5]]), pixel_values=pixel_values[:1], max_new_tokens=3)
        assert ids.shape[0] == 1
        ids = model.generate(**left_pad([[5, START]]), generation_mode="image", max_new_tokens=4, min_new_tokens=4)
        assert (ids[0, 2:] >= END).all()


class TestSaving:
    def test_other_processes_write_nothing(self, model, tmp_path):
        model.save_pretrained(tmp_path, is_main_process=False)
        assert not list(tmp_path.glob("*.safetensors*"))

    def test_one_file_after_shards(self, model, tmp_path):
        model.save_pretrained(tmp_path, max_shard_size="20KB")
        model.save_pretrained(tmp_path)
        tokenizer = LaVITVisualTokenizer.from_pretrained(tmp_path)
        assert torch.equal(tokenizer.merger.norm.weight, model.visual_tokenizer.merger.norm.weight)

    def test_a_repo_without_the_index_gives_the_tokenizer_too(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        (tmp_path / "visual_tokenizer.safetensors.index.json").unlink()
        tokenizer, info = LaVITVisualTokenizer.from_pretrained(tmp_path, output_loading_info=True)
        assert not info["missing_keys"]
        assert torch.equal(tokenizer.quantizer.codebook.weight, model.visual_tokenizer.quantizer.codebook.weight)

    def test_offloaded_weights_are_fetched(self, model, pixel_values):
        accelerate = pytest.importorskip("accelerate")
        batch, settings = left_pad([[5, START]]), {"generation_mode": "image", "do_sample": False, "max_new_tokens": 3}
        expected = model.get_image_tokens(pixel_values), model.generate(**batch, **settings)
        accelerate.cpu_offload(model, execution_device="cpu")
        model.generate(**batch, **settings | {"do_sample": True}, generator=torch.Generator().manual_seed(0))
        assert all(map(torch.equal, model.get_image_tokens(pixel_values), expected[0]))
        assert torch.equal(model.generate(**batch, **settings), expected[1])


class TestBadInput:
    @pytest.mark.parametrize("ids", [[5, 6], [START, END, START, END], [START, 5, END]])
    def test_slots_and_images_differ_in_number(self, model, pixel_values, ids):
        with pytest.raises(ValueError, match="image slots"):
            model(torch.tensor([ids]), pixel_values[:1])
        with pytest.raises(ValueError, match="image slots"):
            model.generate(torch.tensor([ids]), pixel_values[:1])

    def test_slot_without_image(self, model):
        with pytest.raises(ValueError, match="image slots"):
            model.generate(torch.tensor([[START, END, 5]]), max_new_tokens=2)

    def test_unknown_mode(self, model):
        with pytest.raises(ValueError, match="unknown generation_mode 'video'"):
            model.generate(torch.tensor([[5]]), generation_mode="video")

    def test_guidance_below_one(self, model):
        with pytest.raises(ValueError, match="guidance_scale must be 1"):
            model.generate(torch.tensor([[5, START]]), generation_mode="image", guidance_scale=0.5)

    def test_guidance_in_text_mode(self, model):
        with pytest.raises(ValueError, match="only works in image mode"):
            model.generate(torch.tensor([[5]]), guidance_scale=2.0)

    def test_negative_prompt_of_another_batch_size(self, model):
        with pytest.raises(ValueError, match="negative_prompt_ids has 2 prompts"):
            model.generate(
                torch.tensor([[5, START]]),
                generation_mode="image",
                guidance_scale=2.0,
                negative_prompt_ids=torch.tensor([[START], [START]]),
            )

    def test_negative_prompt_with_an_image(self, model):
        with pytest.raises(ValueError, match="image slots"):
            model.generate(
                torch.tensor([[5, START]]),
                generation_mode="image",
                guidance_scale=2.0,
                negative_prompt_ids=torch.tensor([[START, END, START]]),
            )

    def test_image_behind_a_cache(self, model, pixel_values):
        ids = torch.tensor([[START, END, 5]])
        cache = model(torch.tensor([[5, 6]]), use_cache=True).cache
        with pytest.raises(ValueError, match="must cover the prompts, or the cache and the prompts"):
            model(ids, pixel_values[:1], cache=cache, attention_mask=torch.ones(1, 4, dtype=torch.long))

    def test_prompt_beyond_the_context(self, model, pixel_values):
        ids = torch.tensor([[START, END, *[5] * 61]])
        with pytest.raises(ValueError, match="context"):
            model.generate(ids, pixel_values[:1], max_new_tokens=2)

    def test_nothing_to_go_on_from(self, model):
        model.generation_config.bos_token_id = None
        with pytest.raises(ValueError, match="input_ids"):
            model.generate()

    def test_resizing_the_vocabulary(self, model):
        assert model.resize_token_embeddings(TEXT_VOCAB + 26) is model.get_input_embeddings()
        with pytest.raises(ValueError, match="image ids"):
            model.resize_token_embeddings(100)

    def test_vocabulary_too_small_for_the_codes(self):
        with pytest.raises(ValueError, match="leaves no text ids"):
            LaVITConfig(text_config=LlamaConfig(vocab_size=20), visual_tokenizer_config=tiny_visual_config())

    def test_vocabulary_that_does_not_match_the_checkpoint(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        config = copy.deepcopy(model.config)
        config.text_config.vocab_size += 1
        with pytest.raises(RuntimeError, match="mismatched"):
            LaVITForCausalLM.from_pretrained(tmp_path, config=config)

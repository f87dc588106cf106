# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Stage 2: sequences, packing, the model that learns from them, and the scripts that lead from images to a LaVIT."""

import copy
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset, IterableDataset
from PIL import Image
from transformers import AutoModel, AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerState, TrainingArguments

from conftest import tiny_visual_config
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITForPreTraining,
    LaVITImageProcessor,
    LaVITProcessor,
    LaVITVisualTokenizer,
    build_tokenizer,
)
from lavit_hf.training.data import load_split
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.feature_rows import from_bytes, to_bytes
from lavit_hf.training.language_collator import LanguageCollator
from lavit_hf.training.language_data import (
    EpochCallback,
    LanguageDataset,
    SampleMaker,
    leave_out_empty,
    prepare_pairs,
    stream_samples,
)
from lavit_hf.training.packing import first_fit, pack
from lavit_hf.training.pretokenizing import Pretokenizer
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.shards import read_shards, write_shards
from lavit_hf.training.text_tokenizer import train_tokenizer
from training_runs import (
    EXAMPLES,
    SIDE,
    callbacks_of,
    load_script,
    logged,
    run_script,
    weights,
    write_pictures,
    write_run,
)


sys.path.insert(0, str(EXAMPLES / "emoji"))


NUM_PATCHES, CODEBOOK, WIDTH = 16, 24, 32  # of the tiny visual tokenizer
CAPTION, QUESTION, ANSWER = "a red apple", "Question: What color is it? Answer:", "red"
TEXTS = [CAPTION, "a green pear", "two blue birds", f"{QUESTION} {ANSWER}", "Question: How many? Answer::)"] * 3
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "initializer_range": 0.2,
}


@pytest.fixture(scope="module")
def text_tokenizer():
    return train_tokenizer(TEXTS, vocab_size=320)


@pytest.fixture(scope="module")
def processor(text_tokenizer):
    image_processor = LaVITImageProcessor(size={"height": SIDE, "width": SIDE})
    return LaVITProcessor(image_processor, build_tokenizer(text_tokenizer, CODEBOOK))


@pytest.fixture(scope="module")
def stages(tmp_path_factory, text_tokenizer):
    """A folder with what stage 2 starts from: visual tokenizer, text tokenizer and images with texts."""
    folder = tmp_path_factory.mktemp("stages")
    torch.manual_seed(0)
    visual_tokenizer = LaVITVisualTokenizer(tiny_visual_config(merger_softmax="masked", selection="threshold"))
    visual_tokenizer.save_pretrained(folder / "visual")
    LaVITImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder / "visual")
    text_tokenizer.save_pretrained(folder / "text")
    paths = write_pictures(folder / "pictures" / "train", 10)
    lines = [{"file_name": path.name, "text": f"picture {number}"} for number, path in enumerate(paths)]
    (folder / "pictures" / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def text_config(text_tokenizer, **kwargs) -> LlamaConfig:
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return LlamaConfig(vocab_size=len(text_tokenizer), **special, **LLAMA, **kwargs)


@pytest.fixture
def build(stages, text_tokenizer):
    """Builds a tiny model in the second stage, always with the same weights."""

    def build(**kwargs) -> LaVITForPreTraining:
        torch.manual_seed(1)
        visual_tokenizer = LaVITVisualTokenizer.from_pretrained(stages / "visual")
        return LaVITForPreTraining.from_visual_tokenizer(visual_tokenizer, text_config(text_tokenizer), **kwargs)

    return build


def launch(script: str, run: Path) -> None:
    """Runs a script in two processes."""
    # Named `--multi_gpu`, it is for CPUs too: with `--cpu` accelerate starts one process, unless by MPI.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    command += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, str(EXAMPLES / script), str(run)], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr[-3000:]


def row(number: int = 0, **changes) -> dict:
    """A row as the pretokenizer writes it: five of 16 patches are kept."""
    generator = torch.Generator().manual_seed(number)
    kept = torch.zeros(NUM_PATCHES, dtype=torch.bool)
    kept[torch.randperm(NUM_PATCHES, generator=generator)[:5]] = True
    return {
        "codes": torch.randint(CODEBOOK, (5,), generator=generator).tolist(),
        "keep_mask": kept.tolist(),
        "features": to_bytes(torch.randn(NUM_PATCHES, WIDTH, generator=generator)),
        "texts": [CAPTION],
        "prompts": ["apple"],
        **changes,
    }


def said(text: str) -> list[dict]:
    """The content of a message."""
    return [{"type": "text", "text": text}]


def collator(processor, model, max_text_length: int = 40) -> LanguageCollator:
    return LanguageCollator(processor, model.config, max_text_length)


@pytest.fixture
def batch(processor, build):
    """Images that are read and written, a question, a long text and a written image without its text."""
    reading, writing = SampleMaker(["image_text"]), SampleMaker(["text_image"])
    samples = [
        reading.pair(row(0), 0),
        writing.pair(row(1), 1),
        reading.pair(row(2, texts=[f"{QUESTION} {ANSWER}"]), 2),
        writing.text(row(3, texts=["an apple and a pear and two birds"]), 3),
        SampleMaker(["text_image"], condition_dropout=1.0).pair(row(4), 4),
        reading.pair(row(5, texts=["two blue birds"]), 5),
    ]
    return collator(processor, build())(samples)


def look_through_all_rows(lengths: list[int], capacity: int) -> list[list[int]]:
    rows, room = [], []
    for sample in sorted(range(len(lengths)), key=lambda sample: -lengths[sample]):
        fitting = [row for row, left in enumerate(room) if left >= lengths[sample]]
        if fitting:
            rows[fitting[0]].append(sample)
            room[fitting[0]] -= lengths[sample]
        else:
            rows.append([sample])
            room.append(capacity - lengths[sample])
    return rows


class TestPacking:
    def test_first_fit_fills_rows(self):
        rows = first_fit([5, 9, 3, 4, 12, 2], capacity=10)
        assert rows == [[4], [1], [0, 3], [2, 5]]  # what is too long has a row of its own

    @pytest.mark.parametrize(
        ("lengths", "rows"),
        [
            ([], []),
            ([10], [[0]]),  # as long as a row
            ([11, 0], [[0], [1]]),  # too long, and what is empty does not follow it
            ([10, 0, 10], [[0, 1], [2]]),  # what is empty fits into a full row
            ([5] * 5, [[0, 1], [2, 3], [4]]),
            ([6, 7, 3, 4], [[1, 2], [0, 3]]),  # the first row with room, and not the one with least
        ],
    )
    def test_first_fit_at_the_edges(self, lengths, rows):
        assert first_fit(lengths, capacity=10) == rows

    def test_first_fit_takes_the_first_row_with_room(self):
        """Against looking through all rows for every sample."""
        draw = random.Random(0)
        for count in range(300):
            capacity = draw.randint(1, 60)
            lengths = [draw.randint(0, draw.randint(1, capacity + 2)) for _ in range(count)]
            assert first_fit(lengths, capacity) == look_through_all_rows(lengths, capacity)

    @pytest.mark.parametrize("side", ["left", "right"])
    def test_samples_begin_at_position_zero(self, side):
        mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]])
        mask = mask if side == "left" else mask.flip(1)
        numbers = torch.arange(12).view(3, 4)
        packed = pack(numbers, mask, torch.ones(3, 4, dtype=torch.long), capacity=5)
        assert packed.position_ids.tolist() == [[0, 1, 2, 3, 0], [0, 1, 0, 1, 2]]
        assert packed.labels.tolist() == [[-100, 1, 1, 1, -100], [-100, 1, -100, -100, -100]]
        first, last = numbers[0][mask[0].bool()].tolist(), numbers[2][mask[2].bool()].tolist()
        assert packed.token_numbers.tolist() == [[4, 5, 6, 7, *last], [*first, 0, 0, 0]]
        assert packed.num_tokens == 7

    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    @pytest.mark.parametrize("pack_length", [None, 1, 32, 1000])
    def test_losses_and_gradients_stay(self, build, batch, pack_length, attention):
        """Against the released layout: padded on the left, with an attention mask."""
        model = build()
        features = batch.pop("image_features"), batch.pop("keep_mask")
        embedded = model.visual_tokenizer.embedding(features[0].float())
        choose_patches = partial(model.visual_tokenizer.choose_patches, features[0].float())
        rule = model.visual_tokenizer.config.selection_rule(features[1])
        rows, _ = model.understanding(
            embedded, choose_patches, model.visual_tokenizer.merge_patches, rule, keep_mask=features[1]
        )
        filled = model.model.fill_slots(rows, batch["input_ids"], attention_mask=batch["attention_mask"])
        labels = filled.spread(batch["labels"].masked_fill(model.model.find_marks(batch["input_ids"]), -100), -100)
        reference = model(inputs_embeds=filled.inputs_embeds, attention_mask=filled.attention_mask).logits
        following, logits = labels[:, 1:].flatten(), reference[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, following)
        loss.backward()
        expected = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}

        packed = build()
        packed.set_attn_implementation(attention)
        packed.pack_length = pack_length
        output = packed(**batch, image_features=features[0], keep_mask=features[1])
        output.loss.backward()
        torch.testing.assert_close(output.loss, loss)
        assert int(output.num_tokens) == int(filled.attention_mask.sum())
        for name, gradient in expected.items():
            torch.testing.assert_close(packed.get_parameter(name).grad, gradient, atol=1e-5, rtol=1e-3)

    def test_one_row_for_flash_attention(self, build, batch, monkeypatch):
        model = build()
        model.pack_length = 32
        shapes = []
        model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: shapes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
        )
        expected = model(**batch).loss
        monkeypatch.setattr(
            "lavit_hf.training.modeling_lavit_pretraining.is_flash_attention_requested", lambda config: True
        )
        torch.testing.assert_close(model(**batch).loss, expected)
        (num_rows, width), in_one_row = shapes
        assert num_rows > 1 and in_one_row == (1, num_rows * width)


class TestModel:
    def test_visual_tokenizer_is_frozen(self, build, batch):
        model = build().train()
        before = copy.deepcopy(model.state_dict())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model(**batch).loss.backward()
        optimizer.step()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert not model.visual_tokenizer.training and model.understanding.training
        assert not any(name.startswith("model.visual_tokenizer.") for name in changed)
        trained = {name for name, _ in model.named_parameters() if not name.startswith("model.visual_tokenizer.")}
        assert trained <= changed

    def test_losses_of_text_and_images(self, build, batch, processor):
        output = build()(**batch)
        targets = batch["labels"][batch["labels"] != -100]
        num_images = int((targets >= processor.tokenizer.image_start_token_id).sum())
        assert (int(output.num_image_targets), int(output.num_text_targets)) == (num_images, len(targets) - num_images)
        total = output.text_loss * output.num_text_targets + output.image_loss * output.num_image_targets
        torch.testing.assert_close(output.loss, total / len(targets))
        torch.testing.assert_close(build()(**batch, num_items_in_batch=7).loss, total / 7)

    def test_pictures_features_and_rows_read_alike(self, build, processor):
        model = build()
        model.share_merger()
        ids = torch.tensor([[processor.tokenizer.image_start_token_id, processor.tokenizer.image_end_token_id, 9, 2]])
        inputs = {"input_ids": ids.repeat(2, 1), "labels": ids.repeat(2, 1)}
        pixel_values = torch.randn(2, 3, SIDE, SIDE)
        tokens = model.visual_tokenizer(pixel_values)
        expected = model(**inputs, pixel_values=pixel_values).loss
        torch.testing.assert_close(model(**inputs, image_features=tokens.last_hidden_state).loss, expected)
        rows = {"image_rows": torch.cat(tokens.merged), "keep_mask": tokens.keep_mask}
        torch.testing.assert_close(model(**inputs, **rows).loss, expected)
        torch.testing.assert_close(
            LaVITForCausalLM.forward(model, ids.repeat(2, 1), pixel_values, labels=inputs["labels"]).loss, expected
        )

    def test_without_images_understanding_still_has_gradients(self, build, processor):
        """As processes that train together need it."""
        model = build().train()
        batch = collator(processor, model)([SampleMaker(["text_image"]).pair(row(), 0)])
        model(**batch).loss.backward()
        gradients = [parameter.grad for parameter in model.understanding.parameters()]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)

    def test_saves_what_loads_as_lavit(self, build, batch, processor, tmp_path):
        model = build()
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LaVITForCausalLM"]
        loaded, info = LaVITForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values())
        assert type(AutoModel.from_pretrained(tmp_path)) is LaVITForCausalLM
        inputs = processor(images=Image.new("RGB", (SIDE, SIDE), "red"), text=QUESTION)
        expected = loaded.generate(**inputs, max_new_tokens=6)
        assert torch.equal(model.eval().generate(**inputs, max_new_tokens=6), expected)
        again = LaVITForPreTraining.from_pretrained(tmp_path)
        torch.testing.assert_close(again(**batch).loss, model(**batch).loss)

    def test_starts_from_a_pretrained_language_model(self, stages, text_tokenizer):
        torch.manual_seed(0)
        text_model = LlamaForCausalLM(text_config(text_tokenizer))
        words = text_model.get_input_embeddings().weight.detach().clone()
        visual_tokenizer = LaVITVisualTokenizer.from_pretrained(stages / "visual")
        model = LaVITForPreTraining.from_visual_tokenizer(
            visual_tokenizer, text_model, understanding_selector=True, codes_from_codebook=True
        )
        assert torch.equal(model.get_input_embeddings().weight[: len(words)], words)
        for name in ("merger", "selector"):
            own, shared = getattr(model.understanding, name), getattr(visual_tokenizer, name)
            assert all(map(torch.equal, own.state_dict().values(), shared.state_dict().values()))
        codes = model.get_input_embeddings().weight[model.config.first_code_token_id :]
        codebook = visual_tokenizer.quantizer.codebook.weight
        centered = codebook - codebook.mean(dim=0)
        projection = torch.linalg.lstsq(centered, codes).solution
        torch.testing.assert_close(centered @ projection, codes, atol=1e-4, rtol=1e-4)

    def test_refuses_what_it_cannot_read(self, build, batch):
        model = build()
        with pytest.raises(ValueError, match="one of pixel_values, image_features and image_rows"):
            model(**batch, pixel_values=torch.zeros(3, 3, SIDE, SIDE))
        with pytest.raises(ValueError, match="needs a keep_mask"):
            model(batch["input_ids"], labels=batch["labels"], image_rows=torch.zeros(5, WIDTH))
        with pytest.raises(ValueError, match="understanding_selector=False"):
            build(understanding_selector=True).share_merger()


class TestLayouts:
    """A trained sequence begins as the processor's prompt, and goes on as `generate` is to go on."""

    def collate(self, processor, build, *samples, **kwargs) -> tuple[list[int], list[int]]:
        """Ids and targets of the first sample."""
        batch = collator(processor, build(), **kwargs)(list(samples))
        ids, labels = batch["input_ids"][0], batch["labels"][0]
        assert torch.equal(labels[labels != -100], ids[labels != -100])
        prompt = ids[labels == -100]
        return prompt[batch["attention_mask"][0][labels == -100].bool()].tolist(), ids[labels != -100].tolist()

    def text_ids(self, processor, text: str) -> list[int]:
        return processor.tokenizer(text).input_ids

    def test_caption(self, processor, build):
        prompt, targets = self.collate(processor, build, SampleMaker(["image_text"]).pair(row(), 0))
        assert prompt == processor(images=Image.new("RGB", (SIDE, SIDE))).input_ids[0].tolist()
        assert targets == [*self.text_ids(processor, CAPTION), processor.tokenizer.eos_token_id]
        assert processor.decode(targets, skip_special_tokens=True) == CAPTION

    @pytest.mark.parametrize("answer", [" red", ":)"])
    def test_question(self, processor, build, answer):
        assert self.text_ids(processor, QUESTION + ":)")[: len(self.text_ids(processor, QUESTION))] != self.text_ids(
            processor, QUESTION
        )  # an answer without a space would change the question's own tokens
        sample = SampleMaker(["image_text"]).pair(row(texts=[QUESTION + answer]), 0)
        prompt, targets = self.collate(processor, build, sample)
        question = processor.format_question("What color is it?")
        assert prompt == processor(images=Image.new("RGB", (SIDE, SIDE)), text=question).input_ids[0].tolist()
        assert processor.decode(targets, skip_special_tokens=True).strip() == answer.strip()

    def test_several_questions_are_turns_of_a_chat(self, processor, build):
        turns = {"What color is it?": "red", "Is it a pear?": "no", "What is this?": "an apple"}
        texts = [CAPTION, *(f"{processor.format_question(question)} {turns[question]}" for question in turns)]
        maker = SampleMaker(["image_text"], max_questions=2)
        asked = [maker.pair(row(texts=texts), number) for number in range(40)]
        assert {len(sample["further"]) for sample in asked if sample["prompt"]} == {1}
        assert not any(sample["further"] for sample in asked if not sample["prompt"])
        assert len({tuple(sample["further"]) for sample in asked}) == 4  # each question, and none behind a caption
        sample = next(sample for sample in asked if "color" in sample["prompt"])
        [(second, _)] = sample["further"]
        question = next(question for question in turns if question in second)

        chat = [
            {"role": "user", "content": [{"type": "image", "image": Image.new("RGB", (SIDE, SIDE))}, *said(turn)]}
            if turn == "What color is it?"
            else {"role": role, "content": said(turn)}
            for role, turn in (
                ("user", "What color is it?"),
                ("assistant", "red"),
                ("user", question),
                ("assistant", turns[question]),
            )
        ]
        expected = processor.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        _, targets = self.collate(processor, build, sample)
        batch = collator(processor, build())([sample])
        assert batch["input_ids"].tolist() == expected["input_ids"].tolist()
        written = expected["input_ids"][0][torch.as_tensor(expected["assistant_masks"])[0].bool()]
        said_ids, written_ids = ([processor.decode(id) for id in ids] for ids in (targets, written))
        assert [text for text in said_ids if text] == [text for text in written_ids if text]  # a space may be a target

    def test_questions_that_do_not_fit_are_left_out(self, processor, build):
        texts = [f"Question: {number}? Answer: yes" for number in range(9)]
        sample = SampleMaker(["image_text"], max_questions=9).pair(row(texts=texts), 0)
        assert len(sample["further"]) == 8
        one = len(self.text_ids(processor, texts[0])) + 1
        for number in (1, 2, 3):
            prompt, targets = self.collate(processor, build, sample, max_text_length=one * number + 1)
            assert len(prompt) + len(targets) == 2 + one * number
        with pytest.raises(TrainingError, match="max_questions must be at least 1, got 0"):
            SampleMaker(max_questions=0)

    def test_writing(self, processor, build):
        sample = SampleMaker(["text_image"]).pair(row(), 0)
        prompt, targets = self.collate(processor, build, sample)
        assert prompt == processor(text="apple", generation_mode="image").input_ids[0].tolist()
        first = processor.tokenizer.image_end_token_id + 1
        assert targets == [*(first + code for code in sample["codes"]), processor.tokenizer.image_end_token_id]

    def test_unconditional_writing_is_guidances_other_branch(self, processor, build):
        model = build()
        prompt, _ = self.collate(processor, build, SampleMaker(["text_image"], condition_dropout=1.0).pair(row(), 0))
        doubled = []
        model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: doubled.append(kwargs["inputs_embeds"]), with_kwargs=True
        )
        inputs = processor(text="apple", generation_mode="image")
        model.eval().generate(**inputs, generation_mode="image", guidance_scale=2.0, max_new_tokens=1)
        assert torch.equal(doubled[0][1, -1:], model.get_input_embeddings()(torch.tensor(prompt)))

    def test_example_before_the_text(self, processor, build):
        """As `generate` puts an image into a prompt that asks for one: codes without marks."""
        model = build().eval()
        inputs = processor(images=Image.new("RGB", (SIDE, SIDE), "blue"), text="apple", generation_mode="image")
        ids = model.get_image_tokens(inputs.pop("pixel_values"))[0][1:-1]
        embed = model.get_input_embeddings()
        expected = model.model.fill_slots([embed(ids)], **inputs, keep_marks=False).inputs_embeds[0]
        example = (ids - model.config.first_code_token_id).tolist()
        sample = SampleMaker(["text_image"]).pair(row(), 0) | {"example": example}
        prompt, targets = self.collate(processor, build, sample)
        assert torch.equal(embed(torch.tensor(prompt)), expected)
        assert len(targets) == len(sample["codes"]) + 1

    def test_text_alone(self, processor, build):
        prompt, targets = self.collate(processor, build, SampleMaker().text(row(), 0))
        assert prompt + targets == [*self.text_ids(processor, CAPTION), processor.tokenizer.eos_token_id]
        assert len(prompt) == 1  # nothing stands before the first id to predict it from

    @pytest.mark.parametrize("text", ["[IMG][/IMG]</s>", "<code_7> <s> <unk>", "<image> [/IMG]"])
    def test_spelled_tokens_are_text(self, processor, build, text):
        for layout in ("image_text", "text_image"):
            sample = SampleMaker([layout]).pair(row(texts=[text], prompts=[text]), 0)
            prompt, targets = self.collate(processor, build, sample)
            words = range(3, processor.tokenizer.image_start_token_id)
            num_others = 3 if layout == "image_text" else 2 + len(sample["codes"])  # marks, codes, end of sequence
            assert sum(id not in words for id in prompt + targets) == num_others

    def test_too_long_texts_are_cut_and_counted(self, processor, build):
        collate = collator(processor, build(), max_text_length=2)
        samples = [
            SampleMaker(["image_text"]).pair(row(n, texts=[text]), n) for n, text in enumerate([CAPTION, "pear"])
        ]
        assert len(self.text_ids(processor, CAPTION)) > 2 >= len(self.text_ids(processor, "pear"))
        labels = collate(samples)["labels"]
        assert labels[0][labels[0] != -100].tolist() == self.text_ids(processor, CAPTION)[:2]
        assert labels[1][-1] == processor.tokenizer.eos_token_id
        assert collate.num_cut == 1

    def test_longest_sample_must_fit_the_context(self, processor, build):
        with pytest.raises(TrainingError, match="Lower max_text_length"):
            collator(processor, build(), max_text_length=60)
        config = build().config
        LanguageCollator(processor, config, 64 - NUM_PATCHES - 3)
        with pytest.raises(TrainingError, match="Lower max_text_length"):  # an example is an image more
            LanguageCollator(processor, config, 64 - NUM_PATCHES - 3, has_examples=True)

    def test_codes_of_another_tokenizer(self, processor, build):
        sample = SampleMaker(["text_image"]).pair(row(codes=[CODEBOOK]), 0)
        with pytest.raises(TrainingError, match="another visual tokenizer"):
            collator(processor, build())([sample])


class TestData:
    def pairs(self, number: int = 8, **columns) -> Dataset:
        return Dataset.from_list(
            [row(n, **{name: values[n] for name, values in columns.items()}) for n in range(number)]
        )

    def test_images_that_are_read_by_their_codes(self, processor, build):
        """`[IMG] codes [/IMG]`, the text, and an end; the text and the end alone are learned."""
        model, start, end = build(), processor.image_start_token_id, processor.tokenizer.image_end_token_id
        sample = SampleMaker(["image_text"], read_codes=True).pair(row(), 0)
        batch = collator(processor, model)([sample])
        assert not batch.keys() & {"image_features", "image_rows", "pixel_values", "keep_mask"}
        text = processor.tokenizer(CAPTION, add_special_tokens=False)["input_ids"]
        codes = [model.config.first_code_token_id + code for code in row()["codes"]]
        answer = [*text, processor.tokenizer.eos_token_id]
        assert batch["input_ids"].tolist() == [[start, *codes, end, *answer]]
        assert batch["labels"].tolist() == [[-100] * (len(codes) + 2) + answer]

    def test_layouts_take_turns(self):
        data = LanguageDataset(self.pairs(), SampleMaker())
        first = [sample["layout"] for sample in data.__getitems__(list(range(8)))]
        data.maker.set_epoch(1)
        assert first == ["image_text", "text_image"] * 4
        assert [sample["layout"] for sample in data.__getitems__(list(range(8)))] == ["text_image", "image_text"] * 4

    def test_texts_are_drawn_anew_in_each_epoch_and_the_same_again(self):
        def drawn(epoch: int) -> list[str]:
            maker = SampleMaker(["image_text"], seed=3)
            maker.set_epoch(epoch)
            data = LanguageDataset(self.pairs(texts=[list("abcdefgh")] * 8), maker)
            return [data[number]["answer"] for number in range(8)]

        assert drawn(0) == drawn(0) != drawn(1)
        assert len(set(drawn(0))) > 2

    def test_texts_alone_are_mixed_in(self):
        texts = Dataset.from_dict({"text": [f"text {number}" for number in range(5)]})
        data = LanguageDataset(self.pairs(), SampleMaker(), texts, text_share=0.2)
        assert [data[number]["answer"] for number in (8, 9)] == ["text 0", "text 1"] and len(data) == 10
        data.maker.set_epoch(1)
        assert [sample["answer"] for sample in data.__getitems__([9, 8, 0])[1:]] == ["text 3", "text 2"]

    def test_examples_share_a_value(self):
        pairs = self.pairs(12, style=["flat", "round", "flat"] * 4)
        data = LanguageDataset(pairs, SampleMaker(["text_image"], example_share=1.0), example_column="style")
        of_style = {style: [r["codes"] for r in pairs if r["style"] == style] for style in ("flat", "round")}
        samples = data.__getitems__(list(range(12)))
        assert all(sample["example"] in of_style[r["style"]] for sample, r in zip(samples, pairs))
        assert len({tuple(sample["example"]) for sample in samples}) > 2
        assert all(sample["example"] != sample["codes"] for sample in samples)
        alone = LanguageDataset(pairs, SampleMaker(["text_image"], condition_dropout=1.0, example_share=1.0))
        assert "example" not in alone[0]
        with pytest.raises(TrainingError, match="no example_column 'color'"):
            LanguageDataset(pairs, SampleMaker(example_share=0.5), example_column="color")

    def test_no_image_is_its_own_example(self):
        """Of three, each of the others is one equally often; the only one of its style has none."""
        pairs = self.pairs(4, style=["flat", "round", "flat", "flat"])
        maker = SampleMaker(["text_image"], example_share=1.0)
        data = LanguageDataset(pairs, maker, example_column="style")
        found = {number: [] for number in range(4)}
        codes = [row["codes"] for row in pairs]
        for epoch in range(40):
            maker.set_epoch(epoch)
            for number, sample in enumerate(data.__getitems__([0, 1, 2, 3])):
                found[number] += [codes.index(sample["example"])] if "example" in sample else []
        assert found[1] == []
        assert {number: set(others) for number, others in found.items() if number != 1} == {
            0: {2, 3},
            2: {0, 3},
            3: {0, 2},
        }
        assert all(8 <= others.count(other) <= 32 for others in found.values() for other in set(others))

    @pytest.mark.parametrize("template", ["{}", "Question: {}"])
    def test_a_template_without_a_mark_before_the_answer(self, template):
        """Nothing tells where the answer begins, so all of the text is learned."""
        maker = SampleMaker(["image_text"], template)
        sample = maker.pair(row(texts=["What is it? A cat."]), 0)
        assert (sample["prompt"], sample["answer"]) == ("", "What is it? A cat.")

    def test_images_that_are_not_written_are_only_read(self):
        pairs = self.pairs(12, style=["flat", "round", "flat"] * 4, written=[n in (1, 5, 6, 9) for n in range(12)])
        data = LanguageDataset(pairs, SampleMaker(example_share=0.5), example_column="style")
        written = {tuple(pairs[n]["codes"]) for n in (1, 5, 6, 9)}
        examples, seen = [], set()
        for epoch in range(20):
            data.maker.set_epoch(epoch)
            samples = data.__getitems__(list(range(12)))
            assert [sample["layout"] for sample in samples] == [data.maker.layout(n) for n in range(12)]
            seen |= {tuple(sample["codes"]) for sample in samples if sample["layout"] == "text_image"}
            examples += [sample["example"] for sample in samples if "example" in sample]
            read = [sample["image"]["keep_mask"] for sample in samples if sample["layout"] == "image_text"]
            assert read == [pairs[n]["keep_mask"] for n in range(12) if data.maker.layout(n) == "image_text"]
        assert seen == written and len(examples) > 20
        assert {tuple(example) for example in examples} <= written

    def test_no_image_to_write(self):
        pairs = self.pairs(4, written=[False] * 4)
        with pytest.raises(TrainingError, match="no row of the dataset is to be written"):
            LanguageDataset(pairs, SampleMaker())
        assert len(LanguageDataset(pairs, SampleMaker(["image_text"]))) == 4

    def test_streamed_images_that_are_not_written(self):
        pairs = self.pairs(8, written=[n % 4 == 1 for n in range(8)]).to_iterable_dataset()
        layouts = [sample["layout"] for sample in stream_samples(pairs, SampleMaker())]
        assert layouts == ["image_text", "text_image", "image_text", "image_text"] * 2
        alone = list(stream_samples(pairs, SampleMaker(["text_image"])))
        assert [sample["codes"] for sample in alone] == [row(n)["codes"] for n in (1, 5)]

    def test_questions_prompt_no_image(self):
        pairs = self.pairs(1).remove_columns("prompts").map(lambda row: {"texts": [f"{QUESTION} red", CAPTION]})
        maker = SampleMaker(["text_image"])
        prompts = set()
        for epoch in range(8):
            maker.set_epoch(epoch)
            prompts.add(LanguageDataset(pairs, maker)[0]["prompt"])
        assert prompts == {CAPTION}

    def test_streams(self):
        texts = Dataset.from_dict({"text": ["text"] * 50}).to_iterable_dataset()
        stream = stream_samples(self.pairs().to_iterable_dataset(), SampleMaker(), texts, text_share=0.5)
        samples = list(stream)
        assert isinstance(stream, IterableDataset)
        assert {sample["layout"] for sample in samples} == {"image_text", "text_image", "text"}
        expected = LanguageDataset(self.pairs(), SampleMaker())[0]
        assert next(iter(stream_samples(self.pairs().to_iterable_dataset(), SampleMaker()))) == expected

    def test_a_pass_of_a_stream_ends_with_the_images_however_few_the_texts(self):
        texts = Dataset.from_dict({"text": ["a", "b"]}).to_iterable_dataset()
        pairs = self.pairs(40).to_iterable_dataset()
        samples = list(stream_samples(pairs, SampleMaker(["text_image"]), texts, text_share=0.5))
        assert len({tuple(sample["codes"]) for sample in samples if sample["layout"] == "text_image"}) == 40

    def test_passes_of_a_stream_are_counted(self):
        maker, state = SampleMaker(), TrainerState(epoch=0.25)  # a share of all steps
        callback = EpochCallback(maker)
        epochs = []
        for _ in range(3):
            callback.on_epoch_begin(None, state, None)
            epochs.append(maker.epoch)
        assert epochs == [0, 1, 2]
        state.epoch = 7.0  # a dataset of known length, resumed
        callback = EpochCallback(maker)
        callback.on_epoch_begin(None, state, None)
        assert maker.epoch == 7

    def test_empty_texts_are_left_out(self, caplog):
        pairs = self.pairs(4, texts=[["", CAPTION], [" "], [], [CAPTION]])
        kept = prepare_pairs(pairs, ["image_text"])
        assert len(kept) == 2 and "skipped 2 of 4 rows" in caplog.text
        assert LanguageDataset(kept, SampleMaker(["image_text"]))[0]["answer"] == CAPTION
        with pytest.raises(TrainingError, match="none of the 4 rows has a text"):
            leave_out_empty(Dataset.from_dict({"text": ["", None, " ", "\n"]}))

    def test_missing_columns_are_named(self):
        pairs = self.pairs(2)
        with pytest.raises(TrainingError, match=r"no codes .* only .*features"):
            prepare_pairs(pairs.remove_columns("codes"), ["text_image"])
        with pytest.raises(TrainingError, match="no features or rows or image"):
            prepare_pairs(pairs.remove_columns("features"), ["image_text"])
        with pytest.raises(TrainingError, match="no text or texts"):
            prepare_pairs(pairs.remove_columns("texts"), ["text_image"])
        assert len(prepare_pairs(pairs.remove_columns("features"), ["text_image"])) == 2

    def test_settings_that_cannot_be(self):
        with pytest.raises(TrainingError, match="layouts must be among"):
            SampleMaker(["image_image"])
        with pytest.raises(TrainingError, match="text_share"):
            LanguageDataset(self.pairs(2), SampleMaker(), text_share=0.3)


class TestPretokenize:
    @pytest.fixture(scope="class")
    def script(self):
        return load_script("pretokenize")

    def run(self, script, stages, output: Path, **settings) -> Path:
        common = {"visual_tokenizer": str(stages / "visual"), "dataset": str(stages / "pictures")}
        shards = {"output": str(output), "rows_per_shard": 4, "batch_size": 3}
        run = output.with_suffix(".yaml")
        run.write_text(json.dumps({**common, **shards, **settings}))  # JSON is YAML
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script.__file__, str(run)])
            script.main()
        return output / "train"

    def test_rows_are_what_the_tokenizer_gives(self, script, stages, tmp_path):
        rows = read_shards(self.run(script, stages, tmp_path / "features", keep_columns=["image"]))
        merged = read_shards(self.run(script, stages, tmp_path / "merged", rows="merged"))
        model = LaVITVisualTokenizer.from_pretrained(stages / "visual").eval()
        picture = load_split(str(stages / "pictures"))[7]
        image_processor = LaVITImageProcessor.from_pretrained(stages / "visual")
        with torch.no_grad():
            outputs = model(image_processor(picture["image"], return_tensors="pt").pixel_values)
        assert rows["text"] == [f"picture {number}" for number in range(10)]
        assert rows[7]["codes"] == outputs.codes[0].tolist()
        assert rows[7]["keep_mask"] == outputs.keep_mask[0].tolist()
        close = {"atol": 1e-2, "rtol": 1e-2}  # fp16
        torch.testing.assert_close(
            from_bytes(rows[7]["features"], WIDTH).float(), outputs.last_hidden_state[0], **close
        )
        torch.testing.assert_close(from_bytes(merged[7]["rows"], WIDTH).float(), outputs.merged[0], **close)
        assert prepare_pairs(rows.remove_columns("features"), ["image_text"])[7]["image"].size == (SIDE, SIDE)

    def test_features_in_place_of_pictures(self, script, stages, tmp_path):
        """The second pass starts from what the first one wrote, and makes texts on the way."""
        first = self.run(script, stages, tmp_path / "first")
        texts = tmp_path / "own_texts.py"
        texts.write_text("def both(row):\n    return {'texts': [row['text']], 'prompts': ['a ' + row['text']]}\n")
        second = self.run(
            script, stages, tmp_path / "second", dataset=str(first.parent), text_function=f"{texts}:both"
        )
        first, second = read_shards(first), read_shards(second)
        assert second["codes"] == first["codes"] and second["features"] == first["features"]
        assert second[3]["prompts"] == ["a picture 3"] and second[3]["text"] == "picture 3"

    def test_goes_on_with_the_first_missing_shard(self, script, stages, tmp_path):
        output = self.run(script, stages, tmp_path / "shards")
        expected = {path.name: path.read_bytes() for path in output.glob("*.parquet")}
        assert len(expected) == 3
        kept, lost = output / "part-00000-of-00003.parquet", output / "part-00001-of-00003.parquet"
        before = kept.stat().st_mtime_ns
        lost.unlink()
        with pytest.raises(TrainingError, match="2 of 3 shards"):
            read_shards(output)
        self.run(script, stages, tmp_path / "shards")
        assert kept.stat().st_mtime_ns == before
        assert {path.name: path.read_bytes() for path in output.glob("*.parquet")} == expected

    def test_two_writers_give_what_one_gives(self, script, stages, tmp_path, monkeypatch):
        one = self.run(script, stages, tmp_path / "one")
        model = LaVITVisualTokenizer.from_pretrained(stages / "visual").eval()
        pretokenizer = Pretokenizer(
            model,
            load_split(str(stages / "pictures")),
            LaVITImageProcessor.from_pretrained(stages / "visual"),
            batch_size=3,
        )
        for index in range(2):
            state = _Process(index)
            monkeypatch.setattr("lavit_hf.training.shards.PartialState", lambda state=state: state)
            monkeypatch.setenv("WORLD_SIZE", "2")
            write_shards(10, pretokenizer.encode, tmp_path / "two", pretokenizer.schema, {}, rows_per_shard=4)
        for path in one.glob("*.parquet"):
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()

    def test_processes_that_do_not_know_of_each_other(self, script, stages, tmp_path, monkeypatch):
        """As accelerate starts them without an accelerator, unless it is told so."""
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(TrainingError, match="set use_cpu"):
            self.run(script, stages, tmp_path / "shards")

    @pytest.mark.slow
    def test_two_processes_share_the_work(self, script, stages, tmp_path):
        one = self.run(script, stages, tmp_path / "one")
        settings = yaml.safe_load((tmp_path / "one.yaml").read_text())
        (tmp_path / "two.yaml").write_text(json.dumps(settings | {"output": str(tmp_path / "two"), "use_cpu": True}))
        launch("pretokenize.py", tmp_path / "two.yaml")
        for path in one.glob("*.parquet"):
            assert path.read_bytes() == (tmp_path / "two" / "train" / path.name).read_bytes()

    def test_broken_pictures_are_left_out_and_named(self, script, stages, tmp_path, capsys, caplog):
        shutil.copytree(stages / "pictures", tmp_path / "pictures")
        (tmp_path / "pictures" / "train" / "picture_05.png").write_bytes(b"no picture")
        output = self.run(script, stages, tmp_path / "shards", dataset=str(tmp_path / "pictures"))
        assert read_shards(output)["text"] == [f"picture {number}" for number in range(10) if number != 5]
        assert "picture_05.png" in caplog.text and "9 rows" in capsys.readouterr().out

    def test_bad_settings(self, script, stages, tmp_path):
        for settings, message in {
            ("rows", "all"): "rows must be one of",
            ("image_column", "picture"): "no column picture",
            ("keep_columns", ("author",)): "no column author",
            ("text_function", "nowhere.py:texts"): "of an existing file",
        }.items():
            with pytest.raises(TrainingError, match=message):
                self.run(script, stages, tmp_path / "shards", **dict([settings]))
        self.run(script, stages, tmp_path / "shards")
        with pytest.raises(TrainingError, match="rows changed"):
            self.run(script, stages, tmp_path / "shards", rows="none")


class _Process:
    """One of two processes of `accelerate launch`, as far as writing shards asks."""

    num_processes = 2

    def __init__(self, index: int):
        self.process_index = index
        self.is_local_main_process = index == 0

    def main_process_first(self):
        return pytest.MonkeyPatch.context()

    def wait_for_everyone(self) -> None:
        pass


class TestPretrain:
    @pytest.fixture(scope="class")
    def script(self):
        return load_script("pretrain")

    @pytest.fixture(scope="class")
    def tokens(self, tmp_path_factory) -> Path:
        """What the pretokenizer would have written."""
        folder = tmp_path_factory.mktemp("tokens")
        rows = [row(n, texts=[f"picture {n}", f"{QUESTION} {n}"], prompts=[f"number {n}"]) for n in range(16)]
        for split, number in {"train": 16, "validation": 4}.items():
            schema = Dataset.from_list(rows).features.arrow_schema
            write_shards(number, lambda range: [rows[n] for n in range], folder / split, schema, {}, 8)
        return folder

    def write_run(self, path: Path, stages, tokens, **settings) -> Path:
        common = {
            "visual_tokenizer": str(stages / "visual"),
            "text_tokenizer": str(stages / "text"),
            "text_config": {"model_type": "llama", **LLAMA},
            "generation": {"max_new_tokens": 5},
            "image_generation": {"top_k": 7},
            "dataset": str(tokens),
            "max_text_length": 32,
            "pack_length": 48,
        }
        return write_run(path, **{**common, **settings})

    @pytest.fixture(scope="class")
    def trained(self, script, stages, tokens, tmp_path_factory) -> Path:
        """Four steps with a checkpoint after two, and more than one epoch."""
        run = self.write_run(
            tmp_path_factory.mktemp("runs") / "run.yaml",
            stages,
            tokens,
            per_device_train_batch_size=6,
            validation_split="validation",
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
            lr_scheduler_type="cosine",
        )
        return run_script(script, run)

    def test_logs_each_loss(self, trained):
        for name in ("loss", "text_loss", "image_loss", "tokens_per_second", "grad_norm"):
            assert len(logged(trained, name)) == 4
        assert len(logged(trained, "eval_text_loss")) == 2
        for loss, text, image in zip(*(logged(trained, name) for name in ("loss", "text_loss", "image_loss"))):
            assert min(text, image) < loss < max(text, image)

    @pytest.mark.parametrize("name", ["", "checkpoint-2"])
    def test_saved_repo_writes_text_and_images(self, trained, name):
        model = LaVITForCausalLM.from_pretrained(trained / name)
        processor = LaVITProcessor.from_pretrained(trained / name)
        assert AutoTokenizer.from_pretrained(trained / name)("</s>").input_ids != [processor.tokenizer.eos_token_id]
        inputs = processor(images=Image.new("RGB", (SIDE, SIDE), "red"))
        assert 2 < model.generate(**inputs).shape[1] <= 2 + 5
        ids = model.generate(**processor(text="number 3", generation_mode="image"), generation_mode="image")
        assert model.config.image_start_token_id in ids[0]
        assert model.generation_config.image_generation["top_k"] == 7
        assert model.generation_config.image_generation["max_new_tokens"] == NUM_PATCHES + 1

    def test_killed_run_goes_on_to_the_same_weights(self, script, stages, tokens, trained, tmp_path):
        killed = tmp_path / "killed"
        killed.mkdir()
        shutil.copytree(trained / "checkpoint-2", killed / "checkpoint-2")
        shutil.copy(trained / "run.json", killed)
        run_script(script, trained.with_suffix(".yaml"), "--output_dir", str(killed))
        expected, found = weights(trained), weights(killed)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert not torch.equal(
            weights(trained / "checkpoint-2")["understanding.projection.weight"],
            expected["understanding.projection.weight"],
        )

    def test_processes_draw_other_noise(self, script, stages, tokens, tmp_path):
        assert SeedPerProcess in callbacks_of(script, self.write_run(tmp_path / "run.yaml", stages, tokens))

    @pytest.mark.slow
    def test_accumulated_steps_are_one_step(self, script, stages, tokens, tmp_path):
        """Averaged by target, however few of them a part of the batch has."""
        settings = {"max_steps": 1, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0}
        whole = self.write_run(tmp_path / "whole.yaml", stages, tokens, per_device_train_batch_size=8, **settings)
        parts = self.write_run(
            tmp_path / "parts.yaml",
            stages,
            tokens,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
            **settings,
        )
        whole, parts = weights(run_script(script, whole)), weights(run_script(script, parts))
        for name, tensor in whole.items():
            torch.testing.assert_close(parts[name], tensor, atol=1e-5, rtol=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize("streaming", [True, False])
    def test_merged_rows_and_texts_alone(self, script, stages, tmp_path, streaming):
        rows = [row(n, rows=to_bytes(torch.randn(5, WIDTH)), text="pear") for n in range(8)]
        pairs = Dataset.from_list(rows).remove_columns(["features", "texts"])
        write_shards(
            8, lambda range: [pairs[n] for n in range], tmp_path / "tokens" / "train", pairs.features.arrow_schema, {}
        )
        (tmp_path / "texts").mkdir()
        Dataset.from_dict({"text": TEXTS}).to_parquet(tmp_path / "texts" / "train.parquet")
        texts = {"text_dataset": str(tmp_path / "texts"), "text_share": 0.5, "streaming": streaming}
        run = self.write_run(tmp_path / "run.yaml", stages, tmp_path / "tokens", max_steps=2, **texts)
        output = run_script(script, run)
        saved = weights(output)
        assert not [name for name in saved if name.startswith("understanding.merger.")]
        assert not LaVITConfig.from_pretrained(output).understanding_merger

    def test_lora_is_merged_when_saved(self, script, stages, tokens, trained, tmp_path):
        start = LaVITForCausalLM.from_pretrained(trained)
        run = self.write_run(
            tmp_path / "run.yaml", stages, tokens, model=str(trained), lora_rank=2, learning_rate=0.1, max_steps=2
        )
        output = run_script(script, run)
        loaded, info = LaVITForCausalLM.from_pretrained(output, output_loading_info=True)
        assert not any(info.values())
        before, after = start.state_dict(), loaded.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        words = start.config.text_vocab_size
        embeddings = "model.language_model.embed_tokens.weight"
        assert {embeddings, "model.understanding.projection.weight"} <= changed
        assert "model.language_model.layers.0.self_attn.q_proj.weight" in changed
        frozen = ("model.visual_tokenizer.", "model.language_model.norm")
        assert not any(name.startswith(frozen) for name in changed)
        assert torch.equal(before[embeddings][:words], after[embeddings][:words])

    def test_loss_that_is_no_number_stops_with_the_step(self, script, stages, tokens, tmp_path):
        run = self.write_run(tmp_path / "run.yaml", stages, tokens, learning_rate=1e30, max_grad_norm=0.0)
        with pytest.raises(TrainingError, match=r"the loss became \S+ at step [23]"):
            run_script(script, run)

    def test_bad_settings_and_data(self, script, stages, tokens, tmp_path):
        half = {"visual_tokenizer": None}
        with pytest.raises(TrainingError, match="set either model, or visual_tokenizer"):
            run_script(script, self.write_run(tmp_path / "a.yaml", stages, tokens, **half))
        with pytest.raises(TrainingError, match="a new language model needs a tokenizer: set text_tokenizer"):
            run_script(script, self.write_run(tmp_path / "c.yaml", stages, tokens, text_tokenizer=None))
        with pytest.raises(TrainingError, match=r"split 'test' of .* cannot be loaded"):
            run_script(script, self.write_run(tmp_path / "b.yaml", stages, tokens, train_split="test"))
        shutil.copytree(tokens, tmp_path / "tokens")
        (tmp_path / "tokens" / "train" / "part-00001-of-00002.parquet").unlink()
        with pytest.raises(TrainingError, match="1 of 2 shards"):
            run_script(script, self.write_run(tmp_path / "c.yaml", stages, tmp_path / "tokens"))

    def test_fewer_rows_than_a_batch(self, script, stages, tokens, tmp_path):
        run = self.write_run(
            tmp_path / "run.yaml",
            stages,
            tokens,
            train_split="validation",
            per_device_train_batch_size=100,
            max_steps=2,
        )
        assert (run_script(script, run) / "model.safetensors").is_file()

    @pytest.mark.slow
    def test_two_processes_have_the_loss_of_one(self, script, stages, tokens, tmp_path):
        saving = {"save_strategy": "steps", "save_steps": 4}
        one = self.write_run(tmp_path / "one.yaml", stages, tokens, per_device_train_batch_size=8, **saving)
        two = self.write_run(tmp_path / "two.yaml", stages, tokens, per_device_train_batch_size=4, **saving)
        launch("pretrain.py", two)
        one, two = run_script(script, one), two.with_suffix("")
        for name in ("loss", "text_loss", "image_loss", "grad_norm"):
            assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-4), name


@pytest.mark.parametrize(
    "script, kinds", [("pretokenize", ["PretokenizeSettings"]), ("pretrain", ["ModelSettings", "DataSettings"])]
)
@pytest.mark.parametrize("size", ["emoji", "7b"])
def test_run_files_set_what_there_is(script, kinds, size):
    module = load_script(script)
    kinds = [getattr(module, kind) for kind in kinds] + [TrainingArguments] * (script == "pretrain")
    known = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    values = yaml.safe_load((EXAMPLES / "runs" / f"{size}_{script}.yaml").read_text())
    assert values.keys() <= known


def test_text_tokenizer_reads_any_text(text_tokenizer):
    for text in (CAPTION, "zebra", "ünïcödé 日本 🍎", "</s> <unk>", "line\nbreak\ttab  two spaces"):
        ids = text_tokenizer(text, split_special_tokens=True).input_ids
        assert text_tokenizer.decode(ids) == text
    assert text_tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>"]) == [0, 1, 2]
    inside, alone = text_tokenizer("red apple").input_ids, text_tokenizer("apple").input_ids
    assert inside[-len(alone) :] == alone  # as if a space stood before every text


def test_emoji_texts_are_captions_as_often_as_questions():
    from pair_texts import pair_texts

    emoji = {
        "name": "red apple",
        "keywords": ["apple", "fruit"],
        "category": "food-drink",
        "subcategory": "food-fruit",
        "style": "noto",
        "row": 0,
        "view": 0,
    }
    texts = pair_texts(emoji)
    assert texts["texts"].count("red apple") == sum("Answer:" in text for text in texts["texts"]) > 1
    assert texts["prompts"] == ["red apple", "red apple, fruit"]

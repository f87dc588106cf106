# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The processor: one sequence out of text and images, and texts or images back."""

import json
import pickle
import re
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from datasets import Image as ImageColumn
from PIL import Image
from transformers import AutoProcessor

from lavit_hf import LaVITConfig, LaVITImageProcessorPil, LaVITProcessor
from lavit_hf.lavit import processing_lavit
from lavit_hf.lavit.tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer
from threads import run_in_threads


START, END = 32000, 32001
SLOT = [START, END]


@pytest.fixture(scope="module")
def text_tokenizer(golden):
    return load_sentencepiece_tokenizer(golden.original / "language_model")


@pytest.fixture(scope="module")
def tokenizer(golden, text_tokenizer):
    return build_tokenizer(text_tokenizer, golden.facts["dims"]["n_code"])


@pytest.fixture(scope="module")
def processor(tokenizer):
    return LaVITProcessor(LaVITImageProcessorPil(size=28), tokenizer)


@pytest.fixture(scope="module")
def images():
    return [Image.new("RGB", (40 + index, 30), color) for index, color in enumerate(["red", "green", "blue", "white"])]


@pytest.fixture(scope="module")
def ids(tokenizer):
    """The ids of a prompt of its own."""
    return lambda text: tokenizer(text).input_ids


def brightness(pixel_values: torch.Tensor) -> list[list[float]]:
    return pixel_values.mean((2, 3)).tolist()


class TestPrompts:
    def test_text_only(self, golden, processor):
        for text, expected in golden.facts["text_ids"].items():
            inputs = processor(text=text)
            assert inputs.input_ids.tolist() == [expected]
            assert set(inputs) == {"input_ids", "attention_mask"}

    def test_image_in_front_of_the_prompt(self, processor, images, ids):
        inputs = processor(images=images[0], text="a photo of")
        assert inputs.input_ids.tolist() == [SLOT + ids("a photo of")]
        assert inputs.input_ids.dtype == inputs.attention_mask.dtype == torch.long
        assert inputs.pixel_values.shape == (1, 3, 28, 28)

    @pytest.mark.parametrize("text", [None, "", [""], [None]])
    def test_caption_is_the_slot_alone(self, processor, images, text):
        assert processor(images=images[0], text=text).input_ids.tolist() == [SLOT]

    def test_question_as_the_original_asks(self, golden, processor, images):
        question = processor.format_question("What's that drink in the glass?")
        assert question == "Question: What's that drink in the glass? Answer:"
        assert (
            processor(images=images[0], text=question).input_ids[0, 2:].tolist() == golden.facts["text_ids"][question]
        )

    def test_question_template_can_be_changed(self, tokenizer):
        processor = LaVITProcessor(LaVITImageProcessorPil(), tokenizer)
        processor.question_template = "Q: {} A:"
        assert processor.format_question("{why}?") == "Q: {why}? A:"
        assert processor.format_question("\U000f0002</s> why?") == "Q: </s> why? A:"

    def test_placeholders_anywhere(self, processor, images, ids):
        inputs = processor(images=images[:3], text="<image>first<image>second\n<image>")
        assert inputs.input_ids.tolist() == [[*SLOT, *ids("first"), *SLOT, *ids("second\n"), *SLOT]]

    @pytest.mark.parametrize("text", ["a cat<image>on grass", "a cat <image> on grass", "a cat <image>on grass"])
    def test_a_space_beside_a_placeholder_belongs_to_it(self, processor, images, ids, text):
        assert processor(images=images[0], text=text).input_ids.tolist() == [[*ids("a cat"), *SLOT, *ids("on grass")]]

    def test_only_one_space_belongs_to_a_placeholder(self, processor, images, ids):
        inputs = processor(images=images[:2], text="a  <image>  <image>\nb")
        assert inputs.input_ids.tolist() == [[*ids("a "), *SLOT, *SLOT, *ids("\nb")]]

    def test_generation_mode_image_closes_the_prompt(self, processor, images, ids):
        inputs = processor(images=[images[:1], None], text=["a dog", "red"], generation_mode="image")
        assert inputs.input_ids.tolist() == [[*SLOT, *ids("a dog"), START], [0, 0, 0, *ids("red"), START]]

    def test_golden_image_and_text_prompt(self, golden, processor, images):
        expected = golden.facts["generation_runs"][-1]["prompt_ids"]
        inputs = processor(images=images[0], text="a sculpture of a duck made of wool", generation_mode="image")
        assert inputs.input_ids[0, 2:-1].tolist() == [id for id in expected if id < START]

    def test_other_placeholder(self, tokenizer, images, ids):
        processor = LaVITProcessor(LaVITImageProcessorPil(size=28), tokenizer, image_token="<|x|>")
        inputs = processor(images=images[0], text="the tag <image>:<|x|>")
        assert inputs.input_ids.tolist() == [[*ids("the tag <image>:"), *SLOT]]
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "<image>"}]}]
        assert processor.apply_chat_template(chat) == "<|x|>Question: <image> Answer:"


class TestBatches:
    def test_padding_is_on_the_left_of_image_and_prompt(self, processor, images, ids):
        inputs = processor(images=images[:2], text=["", "a photo of a dog"])
        assert inputs.input_ids.tolist() == [[0] * 5 + SLOT, SLOT + ids("a photo of a dog")]
        assert inputs.attention_mask.tolist() == [[0] * 5 + [1] * 2, [1] * 7]

    def test_captions_of_many_images(self, processor, images):
        inputs = processor(images=images)
        assert inputs.input_ids.tolist() == [SLOT] * 4
        assert inputs.pixel_values.shape == (4, 3, 28, 28)

    def test_one_image_for_each_text(self, processor, images, ids):
        assert processor(images=images[:2], text=["a", "b"]).input_ids.tolist() == [SLOT + ids("a"), SLOT + ids("b")]

    def test_flat_images_are_dealt_out_by_the_placeholders(self, processor, images, ids):
        inputs = processor(
            images=images[:3], text=["a <image><image>", "plain", "<image>"], padding=False, return_tensors=None
        )
        assert inputs.input_ids == [[*ids("a"), *SLOT, *SLOT], ids("plain"), SLOT]

    @pytest.mark.parametrize("nothing", [None, []])
    def test_nested_images_with_texts_that_have_none(self, processor, images, ids, nothing):
        nested = [nothing, images[:2], [images[2]]]
        inputs = processor(images=nested, text=["a", "b", None], padding=False, return_tensors=None)
        assert inputs.input_ids == [ids("a"), SLOT + SLOT + ids("b"), SLOT]
        assert len(inputs.pixel_values) == 3

    def test_images_beside_none(self, processor, images, ids):
        inputs = processor(images=[None, images[0]], text=["a", "b"], padding=False, return_tensors=None)
        assert inputs.input_ids == [ids("a"), SLOT + ids("b")]

    def test_pixel_values_are_in_order_of_appearance(self, processor, images):
        alone = [brightness(processor(images=image).pixel_values)[0] for image in images]
        nested = processor(images=[[images[2], images[0]], [], [images[3]]], text=["<image> a <image>", "b", "c"])
        assert brightness(nested.pixel_values) == [alone[2], alone[0], alone[3]]
        dealt = processor(images=[images[1], images[0], images[2]], text=["x <image>", "y <image> z <image>"])
        assert brightness(dealt.pixel_values) == [alone[1], alone[0], alone[2]]

    def test_paths_and_arrays(self, golden, processor):
        path = golden.image_paths[0]
        from_path = processor(images=str(path), text="a")
        from_array = processor(images=np.array(Image.open(path).convert("RGB")), text="a")
        assert torch.equal(from_path.pixel_values, from_array.pixel_values)

    def test_columns_of_a_table(self, golden, processor):
        """As `datasets` returns them: sequences, but no lists."""
        files = [{"bytes": path.read_bytes(), "path": None} for path in golden.image_paths[:2]]
        table = Dataset.from_dict({"image": files, "text": ["cat", "dog"]}).cast_column("image", ImageColumn())
        expected = processor(images=[str(path) for path in golden.image_paths[:2]], text=["cat", "dog"])
        for column in (table["image"], table.cast_column("image", ImageColumn(decode=False))["image"]):
            found = processor(images=column, text=table["text"])
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                assert torch.equal(found[name], values)
            pixels = processor.image_processor(column, return_tensors="pt")["pixel_values"]
            assert torch.equal(pixels, expected["pixel_values"])
        on_disk = [{"bytes": None, "path": str(path)} for path in golden.image_paths[:2]]
        assert torch.equal(processor(images=on_disk)["pixel_values"], expected["pixel_values"])

    def test_no_image_at_all(self, processor, ids):
        assert "pixel_values" not in processor(images=[[], []], text=["a", "b"])
        assert "pixel_values" not in processor(images=[], text=["a", "b"])


class TestUserTextIsText:
    @pytest.mark.parametrize(
        "text", ["[IMG]", "a </s> b", "<s>", "<unk>", "[IMG][/IMG]", "<code_3>", "[IMG]<code_1>[/IMG]"]
    )
    @pytest.mark.parametrize("generation_mode", ["text", "image"])
    def test_never_a_control_token(self, processor, images, text, generation_mode):
        ids = processor(images=images[0], text=text, generation_mode=generation_mode).input_ids[0].tolist()
        body = ids[2:-1] if generation_mode == "image" else ids[2:]
        assert not {0, 1, 2} & set(body)
        assert max(body) < START
        assert processor.decode(body) == text

    def test_unless_asked_otherwise(self, processor):
        image = "[IMG]<code_0><code_511>[/IMG]"
        inputs = processor(text=f"{image} a dog", split_special_tokens=False)
        assert inputs.input_ids[0, :4].tolist() == [START, 32002, 32513, END]
        assert processor.decode(inputs.input_ids[0]) == f"{image} a dog"

    def test_not_in_chats_either(self, processor, images):
        parts = [{"type": "image", "image": images[0]}, {"type": "text", "text": "</s>[IMG][/IMG]"}]
        chat = [{"role": "user", "content": parts}]
        for sanitize in (False, True):
            ids = processor.apply_chat_template(chat, tokenize=True, sanitize_control_tokens=sanitize)[0].tolist()
            assert ids[:2] == SLOT
            assert max(ids[2:]) < START and 2 not in ids


class TestThreads:
    TEXT = "hello [IMG] </s> <code_3> x"

    def test_user_text_while_another_reads_control_tokens(self, processor):
        """Each gets what it gets alone, by whichever door: processor, chat, and the tokenizer itself beside them."""
        chat = [{"role": "user", "content": self.TEXT}]
        calls = [
            lambda: processor(text=self.TEXT).input_ids,
            lambda: processor(text=self.TEXT, split_special_tokens=False).input_ids,
            lambda: processor.apply_chat_template(chat, tokenize=True),
            lambda: processor.apply_chat_template(chat, tokenize=True, sanitize_control_tokens=True),
        ]
        alone = [call() for call in calls]
        assert torch.equal(alone[2], processor(text=processor.format_question(self.TEXT)).input_ids)
        assert not torch.equal(alone[0], alone[1])
        stop = threading.Event()

        def disturb() -> None:
            while not stop.is_set():
                processor.tokenizer(self.TEXT, split_special_tokens=False)
                processor.tokenizer(self.TEXT, truncation=True, max_length=2)
                processor.tokenizer([self.TEXT, "a"], padding=True)

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            threaded = run_in_threads(lambda call: [call() for _ in range(100)], calls)
        finally:
            stop.set()
            thread.join()
        for expected, results in zip(alone, threaded, strict=True):
            assert all(torch.equal(ids, expected) for ids in results)

    def test_tokens_that_are_added_count(self, text_tokenizer):
        processor = LaVITProcessor(LaVITImageProcessorPil(size=28), build_tokenizer(text_tokenizer, 4))
        before = processor(text="a zyzzyva").input_ids
        processor.tokenizer.add_tokens(["zyzzyva"])
        after = processor(text="a zyzzyva").input_ids
        assert after.shape[1] < before.shape[1] and after[0, -1] == len(processor.tokenizer) - 1

    def test_settings_of_the_tokenizer_count(self, text_tokenizer):
        processor = LaVITProcessor(LaVITImageProcessorPil(size=28), build_tokenizer(text_tokenizer, 4))
        assert START not in processor(text="[IMG]").input_ids
        processor.tokenizer.split_special_tokens = False
        assert START in processor(text="[IMG]").input_ids


class TestTruncation:
    LONG = "one two three four five six seven eight nine ten"

    def test_never_unless_asked(self, processor):
        assert processor.decode(processor(text=self.LONG * 300).input_ids[0]) == self.LONG * 300

    def test_cuts_text_and_keeps_images(self, processor, images):
        text = f"<image>{self.LONG}<image>{self.LONG}"
        inputs = processor(images=images[:2], text=text, truncation=True, max_length=7, generation_mode="image")
        assert processor.decode(inputs.input_ids[0]) == "[IMG][/IMG] one two[IMG][/IMG][IMG]"

    def test_on_the_side_of_the_tokenizer(self, text_tokenizer, images):
        tokenizer = build_tokenizer(text_tokenizer, codebook_size=4)
        tokenizer.truncation_side = "left"
        processor = LaVITProcessor(LaVITImageProcessorPil(size=28), tokenizer)
        inputs = processor(images=images[0], text=self.LONG, truncation=True, max_length=4)
        assert processor.decode(inputs.input_ids[0]) == "[IMG][/IMG] nine ten"

    @pytest.mark.parametrize(
        ("side", "kept"),
        [("right", "one two three[IMG][/IMG] one[IMG]"), ("left", "three[IMG][/IMG] one two three[IMG]")],
    )
    def test_across_pieces(self, text_tokenizer, images, side, kept):
        tokenizer = build_tokenizer(text_tokenizer, codebook_size=4)
        tokenizer.truncation_side = side
        processor = LaVITProcessor(LaVITImageProcessorPil(size=28), tokenizer)
        settings = {"truncation": True, "max_length": 7, "generation_mode": "image", "return_offsets_mapping": True}
        inputs = processor(images=images[0], text="one two three<image>one two three", **settings)
        assert processor.decode(inputs.input_ids[0]) == kept
        first = [[0, 3], [3, 7], [7, 13]] if side == "right" else [[7, 13]]
        second = [[20, 23]] if side == "right" else [[20, 23], [23, 27], [27, 33]]
        assert inputs.offset_mapping[0].tolist() == [*first, [0, 0], [0, 0], *second, [0, 0]]

    def test_to_the_context_of_the_model(self, golden, images):
        text_tokenizer = load_sentencepiece_tokenizer(golden.original / "language_model", model_max_length=6)
        processor = LaVITProcessor(LaVITImageProcessorPil(size=28), build_tokenizer(text_tokenizer, codebook_size=4))
        assert processor(images=images[0], text=self.LONG, truncation=True).input_ids.shape == (1, 6)


class TestArguments:
    def test_padding_and_tensors(self, processor):
        texts = ["a", "a photo of a dog"]
        assert processor(text=texts, padding="max_length", max_length=9).input_ids.shape == (2, 9)
        assert processor(text=texts, pad_to_multiple_of=4).input_ids.shape == (2, 8)
        assert processor(text=texts, padding_side="right").attention_mask[0].tolist() == [1, 0, 0, 0, 0]
        assert isinstance(processor(text=texts, return_tensors="np").input_ids, np.ndarray)
        assert "attention_mask" not in processor(text=texts, return_attention_mask=False)

    def test_arguments_of_the_image_processor(self, processor, images):
        assert processor(images=images, images_kwargs={"size": 14}).pixel_values.shape == (4, 3, 14, 14)
        assert processor(images=images, size={"height": 14, "width": 42}).pixel_values.shape == (4, 3, 14, 42)

    def test_offsets_are_those_of_the_text_as_passed(self, processor, images):
        texts = ["a photo <image> of \n it", "dog"]
        inputs = processor(images=images[:1], text=texts, return_offsets_mapping=True)
        for text, ids, offsets in zip(texts, inputs.input_ids.tolist(), inputs.offset_mapping.tolist()):
            spelled = [(text[a:b], processor.decode([id])) for id, (a, b) in zip(ids, offsets) if b > a]
            assert [id for id, (a, b) in zip(ids, offsets) if a == b and id] in (SLOT, [])
            assert all(part.strip() == token.strip() for part, token in spelled)

    def test_model_input_names(self, processor):
        assert set(processor.model_input_names) == {"input_ids", "attention_mask", "pixel_values"}


class TestIds:
    def test_they_follow_the_vocabulary(self, processor, text_tokenizer):
        longer = LaVITProcessor(LaVITImageProcessorPil(), build_tokenizer(text_tokenizer, 4, text_vocab_size=32010))
        for each, start in ((processor, 32000), (longer, 32010)):
            assert each.image_token_id == each.image_start_token_id == start
            assert each.image_end_token_id == start + 1
            assert each.image_token_ids == [start, start + 1]
            assert each.tokenizer.convert_ids_to_tokens(each.image_token_ids) == ["[IMG]", "[/IMG]"]

    def test_they_are_those_of_the_configuration(self, processor):
        config = LaVITConfig(text_config={"vocab_size": 32514}, visual_tokenizer_config={"codebook_size": 512})
        assert config.image_token_id == processor.image_token_id == config.image_start_token_id
        assert config.image_end_token_id == processor.image_end_token_id

    def test_padding_and_end_follow_the_tokenizer(self, text_tokenizer):
        processor = LaVITProcessor(LaVITImageProcessorPil(), build_tokenizer(text_tokenizer, codebook_size=4))
        assert (processor.pad_token_id, processor.eos_token_id) == (0, 2)
        processor.tokenizer.pad_token = "</s>"
        assert processor.pad_token_id == 2
        assert processor(text=["a", "a dog"]).input_ids[0].tolist() == [2, 264]

    def test_none_is_saved(self, processor):
        assert not [name for name in processor.to_dict() if name.endswith(("_id", "_ids"))]

    def test_token_types_mark_slots(self, processor, images):
        inputs = processor(images=images[:2], text=["a <image> dog <image>", "cat"], return_mm_token_type_ids=True)
        assert inputs.input_ids.tolist() == [[264, *SLOT, 3914, *SLOT], [0] * 5 + [5255]]
        assert inputs.mm_token_type_ids.tolist() == [[0, 1, 1, 0, 1, 1], [0] * 6]
        assert "mm_token_type_ids" not in processor(text="a")

    def test_token_types_do_not_mark_images_to_come_or_spelled_out(self, processor, images):
        settings = {"return_mm_token_type_ids": True, "split_special_tokens": False, "padding_side": "right"}
        texts = ["a", "[IMG]<code_3>[/IMG] a"]
        inputs = processor(images=[images[:1], []], text=texts, generation_mode="image", **settings)
        assert inputs.input_ids.tolist() == [[*SLOT, 264, START, 0], [START, 32005, END, 264, START]]
        assert inputs.mm_token_type_ids.tolist() == [[1, 1, 0, 0, 0], [0] * 5]

    def test_token_types_without_padding(self, processor, images):
        settings = {"return_mm_token_type_ids": True, "padding": False, "return_tensors": None}
        inputs = processor(images=[[images[0]], []], text=["", "a dog"], **settings)
        assert inputs.mm_token_type_ids == [[1, 1], [0, 0]]

    def test_number_of_tokens_is_that_of_the_call(self, processor, images):
        inputs = processor(images=images[:3], text=["a <image>", "<image><image>"], return_mm_token_type_ids=True)
        sizes = [(image.height, image.width) for image in images[:3]]
        counted = processor._get_num_multimodal_tokens(image_sizes=sizes)
        assert counted.num_image_tokens == [2, 2, 2]
        assert inputs.mm_token_type_ids.sum(1).tolist() == [2, 4]
        assert counted.num_image_patches == [1, 1, 1]
        assert sum(counted.num_image_patches) == len(inputs.pixel_values)

    def test_number_of_tokens_of_no_image(self, processor):
        assert "num_image_tokens" not in processor._get_num_multimodal_tokens()
        assert processor._get_num_multimodal_tokens(image_sizes=[]).num_image_tokens == []


class TestConfigurationIds:
    @pytest.mark.parametrize("pad_token_id", [0, None])
    def test_padding_is_that_of_the_language_model(self, pad_token_id):
        config = LaVITConfig(text_config={"vocab_size": 32514, "pad_token_id": pad_token_id})
        assert config.pad_token_id == config.get_text_config().pad_token_id == pad_token_id

    def test_padding_is_set_in_the_language_model(self, tmp_path):
        config = LaVITConfig(pad_token_id=5)
        assert config.text_config.pad_token_id == 5
        config.pad_token_id = 7
        config.save_pretrained(tmp_path)
        assert LaVITConfig.from_pretrained(tmp_path).text_config.pad_token_id == 7
        assert LaVITConfig.from_pretrained(tmp_path, pad_token_id=9).text_config.pad_token_id == 9

    def test_no_id_is_saved_twice(self, tmp_path):
        config = LaVITConfig(image_token_id=32000, pad_token_id=0)
        config.save_pretrained(tmp_path)
        saved = json.loads((tmp_path / "config.json").read_text())
        assert not [name for name in saved if name.endswith("_id")]
        assert saved["text_config"]["pad_token_id"] == 0

    @pytest.mark.parametrize("name", ["LaVIT-7B-v1", "LaVIT-7B-v2"])
    def test_configurations_from_before_load_and_save_as_they_were(self, name, tmp_path):
        path = Path(__file__).parents[2] / "hub_configs" / name / "config.json"
        LaVITConfig.from_pretrained(path).save_pretrained(tmp_path)
        before, after = (json.loads(file.read_text()) for file in (path, tmp_path / "config.json"))
        assert {key for key in after if key.endswith("_id")} == {key for key in before if key.endswith("_id")} == set()
        assert after["text_config"] == before["text_config"]

    def test_an_id_that_contradicts_the_vocabulary(self):
        with pytest.raises(ValueError, match="image_token_id=5 contradicts the vocabulary, where it is 32000"):
            LaVITConfig(image_token_id=5)


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "num_images", "message"),
        [
            (None, 0, "neither a text nor an image"),
            ([], 0, "neither a text nor an image"),
            ("", 0, "Prompt 0 is empty and has no image"),
            (["a", None], 0, "Prompt 1 is empty and has no image"),
            (3, 1, "Prompt 0 is of type int. `text` must be a string or a list of strings"),
            (["a", 3], 2, "Prompt 1 is of type int. `text` must be a string or a list of strings"),
            ([["a", "b"]], 1, "Prompt 0 is of type list. `text` must be a string or a list of strings"),
            ("a \ud800 b", 0, r"Prompt 0 is not valid Unicode: character 2, '\\ud800', is half of a surrogate pair"),
            (["a", "\U0001f34e \udc4e"], 2, r"Prompt 1 is not valid Unicode: character 2, '\\udc4e'"),
            ("<image>", 0, "Prompt 0 has 0 images, but contains <image> 1 times"),
            ("<image> and <image>", 1, "Prompt 0 has 1 images, but contains <image> 2 times"),
            (["<image>", "b"], 2, r"2 images cannot be assigned to texts with \[1, 0\] image placeholders"),
            (["a", "b", "c"], 2, r"2 images cannot be assigned to texts with \[1, 1, 1\] image placeholders"),
        ],
    )
    def test_texts_and_images_that_do_not_match(self, processor, images, text, num_images, message):
        with pytest.raises(ValueError, match=message):
            processor(images=images[:num_images] or None, text=text)

    def test_nested_images_that_do_not_match(self, processor, images):
        with pytest.raises(ValueError, match="There are 2 texts, but 1 lists of images"):
            processor(images=[images[:2]], text=["a", "b"])
        with pytest.raises(ValueError, match="Prompt 1 has 2 images, but contains <image> 1 times"):
            processor(images=[[], images[:2]], text=["a", "<image> b"])

    @pytest.mark.parametrize("mode", ["audio", None, ["text"]])
    def test_unknown_mode(self, processor, mode):
        with pytest.raises(ValueError, match=re.escape(f"unknown generation_mode {mode!r}")):
            processor(text="a", generation_mode=mode)

    @pytest.mark.parametrize("argument", ["max_length", "pad_to_multiple_of"])
    @pytest.mark.parametrize("settings", [{}, {"padding": "max_length"}, {"truncation": True}])
    @pytest.mark.parametrize("length", [0, -2])
    def test_lengths_of_nothing(self, processor, argument, settings, length):
        with pytest.raises(ValueError, match=f"`{argument}` must be above 0"):
            processor(text="a", **{"max_length": 5, **settings, argument: length})

    @pytest.mark.parametrize("name", ["videos", "audio"])
    def test_other_media(self, processor, name):
        with pytest.raises(ValueError, match=f"reads text and images, so it cannot take `{name}`"):
            processor(text="a", **{name: [np.zeros((2, 3, 8, 8))]})

    @pytest.mark.parametrize("argument", ["return_length", "return_overflowing_tokens", "return_token_type_ids"])
    def test_arguments_without_effect(self, processor, argument):
        with pytest.raises(ValueError, match=f"does not support {argument}"):
            processor(text="a", **{argument: True})

    def test_truncation_that_would_cut_images(self, processor, images):
        with pytest.raises(ValueError, match="max_length=3 is less than the 4 image marks of prompt 1"):
            processor(images=[[], images[:2]], text=["a", "b"], truncation=True, max_length=3)

    def test_truncation_to_an_unknown_length(self, processor):
        with pytest.raises(ValueError, match="needs a `max_length`"):
            processor(text="a", truncation=True)

    def test_tokenizer_without_image_marks(self, text_tokenizer):
        with pytest.raises(ValueError, match="Extend it with `build_tokenizer`"):
            LaVITProcessor(LaVITImageProcessorPil(), text_tokenizer)

    def test_empty_placeholder(self, tokenizer):
        with pytest.raises(ValueError, match="`image_token` is empty"):
            LaVITProcessor(LaVITImageProcessorPil(), tokenizer, image_token="")


class TestChats:
    @pytest.fixture
    def chat(self, images):
        return [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [
                    {"type": "image", "image": images[0]},
                    {"type": "text", "text": "what?"},
                ],
            },
        ]

    def test_tokens_are_those_of_the_text(self, processor, images, chat):
        inputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt")
        expected = processor(images=images[0], text="Be short.\n<image>Question: what? Answer:")
        assert set(inputs) == set(expected)
        assert all(torch.equal(inputs[name], expected[name]) for name in expected)

    def test_one_turn_is_the_prompt_of_the_original(self, processor, images, chat):
        ids = processor.apply_chat_template(chat[1:], tokenize=True)
        assert torch.equal(ids, processor(images=images[0], text="Question: what? Answer:").input_ids)

    def test_batch_with_and_without_images(self, processor, images, chat):
        inputs = processor.apply_chat_template([chat, chat[:1]], tokenize=True, return_dict=True)
        assert (inputs.input_ids == START).sum(1).tolist() == [1, 0]
        assert inputs.pixel_values.shape[0] == 1

    def test_message_without_content(self, processor, chat):
        chat = [chat[0], {"role": "assistant", "content": None}, {"role": "user", "content": "b"}]
        assert processor.apply_chat_template(chat) == "Be short.\nQuestion: b Answer:"

    def test_assistant_mask_beside_images(self, processor, images):
        template = (
            "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
            "{% elif message['role'] == 'assistant' %}{% generation %}{{ part['text'] }}{% endgeneration %}"
            "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
        )
        image, text = {"type": "image", "image": images[0]}, {"type": "text", "text": "what "}
        answer = [{"type": "text", "text": "a dog"}]
        chat = [{"role": "user", "content": [image, text, image]}, {"role": "assistant", "content": answer}]
        settings = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
        inputs = processor.apply_chat_template(chat, chat_template=template, return_tensors="pt", **settings)
        assert processor.decode(inputs.input_ids[inputs.assistant_masks.bool()]) == "a dog"


class TestChatErrors:
    @pytest.mark.parametrize("tokenize", [False, True])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([{"text": "x"}], "A part of message 1 of chat 0 has no 'type'. Pass"),
            ([{"type": None, "text": "x"}], "A part of message 1 of chat 0 has no 'type'"),
            (["x"], "A part of message 1 of chat 0 has no 'type'"),
            ([{"type": "text"}], "A part of type 'text' of message 1 of chat 0 has no 'text'"),
            ([{"type": "text", "text": None}], "A part of type 'text' of message 1 of chat 0 has no 'text'"),
            ([{"type": "video"}], "parts of type 'text' and 'image', not 'video' as in message 1 of chat 0"),
            ([{"type": "audio"}], "parts of type 'text' and 'image', not 'audio' as in message 1 of chat 0"),
            ({"type": "text", "text": "x"}, "The content of message 1 of chat 0 is of type dict"),
        ],
    )
    def test_parts_that_are_none(self, processor, content, message, tokenize):
        chat = [{"role": "system", "content": "a"}, {"role": "user", "content": content}]
        with pytest.raises(ValueError, match=message):
            processor.apply_chat_template(chat, tokenize=tokenize)

    @pytest.mark.parametrize(
        ("conversation", "message"),
        [
            (None, "There is no chat"),
            ([], "There is no chat"),
            ([[]], "Chat 0 has no messages"),
            ([[{"role": "user", "content": "a"}], []], "Chat 1 has no messages"),
        ],
    )
    def test_no_chat(self, processor, conversation, message):
        with pytest.raises(ValueError, match=message):
            processor.apply_chat_template(conversation)

    def test_text_that_is_no_text(self, processor):
        chats = [[{"role": "user", "content": text}] for text in ("a", "b\ud800")]
        with pytest.raises(ValueError, match="Prompt 1 is not valid Unicode: character 1"):
            processor.apply_chat_template(chats, tokenize=True)


class TestSaving:
    def test_round_trip(self, processor, images, tmp_path):
        processor.save_pretrained(tmp_path)
        for loaded in (LaVITProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
            assert type(loaded) is LaVITProcessor
            assert loaded.chat_template == processor.chat_template
            assert loaded.image_token == processor.image_token
            inputs, expected = (p(images=images[0], text="  [IMG] <image>") for p in (loaded, processor))
            assert torch.equal(inputs.input_ids, expected.input_ids)
            torch.testing.assert_close(inputs.pixel_values, expected.pixel_values, rtol=0, atol=0.02)

    def test_placeholder_and_template_are_kept(self, tokenizer, tmp_path):
        LaVITProcessor(LaVITImageProcessorPil(), tokenizer, "{{ 'x' }}", image_token="<|x|>").save_pretrained(tmp_path)
        loaded = LaVITProcessor.from_pretrained(tmp_path)
        assert (loaded.image_token, loaded.chat_template) == ("<|x|>", "{{ 'x' }}")

    def test_pickle(self, processor, images):
        copy = pickle.loads(pickle.dumps(processor))
        assert torch.equal(copy(images=images, text=None).input_ids, processor(images=images).input_ids)

    def test_repr_is_short(self, processor):
        assert "of 32514 tokens" in repr(processor)
        assert len(repr(processor)) < 2000


class TestOutputs:
    def test_golden_texts(self, golden, processor):
        for run in golden.facts["understanding_runs"]:
            texts = processor.post_process_image_text_to_text(torch.tensor(run["output_ids"]))
            clean_up = processor.post_process_answer if run["kind"] == "vqa" else processor.post_process_caption
            assert clean_up(texts) == run["text"]

    def test_images_are_spelled_out_on_request(self, golden, processor):
        ids = [golden.facts["image_token_ids"][0]]
        assert processor.post_process_image_text_to_text(ids) == [""]
        (text,) = processor.post_process_image_text_to_text(ids, skip_special_tokens=False)
        assert text.startswith("[IMG]<code_387><code_347>") and text.endswith("[/IMG]")

    @pytest.mark.parametrize("generation_mode", [None, "text"])
    def test_multimodal_output_is_text_by_default(self, processor, ids, generation_mode):
        outputs = torch.tensor([[1, *ids("a dog"), 2]])
        assert processor.post_process_multimodal_output(outputs, generation_mode=generation_mode) == ["a dog"]

    def test_multimodal_output_of_images(self, processor):
        images = torch.tensor([0.0, 0.5, 1.2]).view(1, 3, 1, 1).expand(2, 3, 4, 6)
        first, second = processor.post_process_multimodal_output(images, generation_mode="image")
        assert (first.mode, first.size, first.getpixel((5, 3))) == ("RGB", (6, 4), (0, 128, 255))
        assert second.tobytes() == first.tobytes()

    def test_multimodal_output_of_ids_for_images(self, processor):
        with pytest.raises(ValueError, match="Turn generated ids into images first"):
            processor.post_process_multimodal_output(torch.tensor([[32000, 32001]]), generation_mode="image")

    def test_multimodal_output_of_an_unknown_mode(self, processor):
        with pytest.raises(ValueError, match="unknown generation_mode 'audio'"):
            processor.post_process_multimodal_output(torch.tensor([[1]]), generation_mode="audio")

    def test_captions_end_at_the_first_full_stop(self, processor):
        texts = [" a dog. a cat.", "no stop ", "", ". nothing"]
        assert processor.post_process_caption(texts) == ["a dog", "no stop", "", ""]

    @pytest.mark.parametrize("end", ["\n", "question:", "Long answer:", ",", "."])
    def test_answers_end_at_the_first_mark(self, processor, end):
        assert processor.post_process_answer([f" two dogs{end}\nquestion: why, Long answer: ."]) == ["two dogs"]


def test_rows_are_grouped_by_their_ids(processor):
    """`Trainer` takes the first name of the inputs as the one whose length counts."""
    assert processor.model_input_names == ["input_ids", "attention_mask", "pixel_values"]


class TestLemmatizing:
    @pytest.fixture
    def english(self, monkeypatch):
        """A stand-in for spaCy and its model, which are not installed for tests."""
        lemmas = {"dogs": ("dog", "NOUN"), "playing": ("play", "VERB"), "better": ("good", "ADJ")}

        def analyse(text):
            for word, space in re.findall(r"(\S+)(\s?)", text):
                lemma, kind = lemmas.get(word, (word, "X"))
                yield types.SimpleNamespace(text=word, lemma_=lemma, pos_=kind, whitespace_=space)

        spacy = types.SimpleNamespace(load=lambda name, **kwargs: {"en_core_web_sm": analyse}[name])
        monkeypatch.setitem(sys.modules, "spacy", spacy)

    @pytest.fixture(autouse=True)
    def forget_the_model(self):
        """It is loaded once for each process."""
        processing_lavit._load_spacy.cache_clear()
        yield
        processing_lavit._load_spacy.cache_clear()

    def test_nouns_and_verbs_only(self, processor, english):
        answers = processor.post_process_answer(["two dogs playing better.", "cats"], lemmatize=True)
        assert answers == ["two dog play better", "cats"]

    def test_not_by_default(self, processor, english):
        assert processor.post_process_answer(["two dogs"]) == ["two dogs"]

    def test_library_is_missing(self, processor, monkeypatch):
        monkeypatch.setitem(sys.modules, "spacy", None)
        with pytest.raises(ImportError, match="python -m spacy download en_core_web_sm"):
            processor.post_process_answer(["two dogs"], lemmatize=True)

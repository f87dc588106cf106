# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Chats become the prompts that LaVIT is trained on, and nothing that users write in them is anything but text."""

import pytest
import torch
from PIL import Image

from lavit_hf import LaVITImageProcessorPil, LaVITProcessor
from lavit_hf.lavit.prompt_text import ESCAPE
from lavit_hf.lavit.tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer


SLOT, EOS = [32000, 32001], 2
IMAGE = {"type": "image", "image": Image.new("RGB", (30, 30), "red")}


@pytest.fixture(scope="module")
def tokenizer(golden):
    text_tokenizer = load_sentencepiece_tokenizer(golden.original / "language_model")
    return build_tokenizer(text_tokenizer, golden.facts["dims"]["n_code"])


@pytest.fixture(scope="module")
def processor(tokenizer):
    return LaVITProcessor(LaVITImageProcessorPil(size=28), tokenizer)


def user(*parts):
    parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": "user", "content": parts}


def assistant(*parts):
    return user(*parts) | {"role": "assistant"}


class TestTurns:
    @pytest.mark.parametrize(
        ("chat", "prompt"),
        [
            ([user(IMAGE)], "<image>"),
            ([user(IMAGE, "  \n")], "<image>"),
            ([user(IMAGE, "What?")], "<image>Question: What? Answer:"),
            ([user("What?", IMAGE)], "<image>Question: What? Answer:"),
            ([user(" What?\n")], "Question: What? Answer:"),
            ([{"role": "user", "content": "What?"}], "Question: What? Answer:"),
            ([user(IMAGE), user("What?")], "<image>Question: What? Answer:"),
            ([user(IMAGE, IMAGE, "Alike?")], "<image><image>Question: Alike? Answer:"),
            ([user("Is ", IMAGE, " like ", IMAGE, "?")], "Question: Is <image> like <image>? Answer:"),
            ([user("{}?")], "Question: {}? Answer:"),
            ([{"role": "system", "content": "Be short."}, user(IMAGE, "a")], "Be short.\n<image>Question: a Answer:"),
            ([user("a"), user("b")], "Question: a Answer:\nQuestion: b Answer:"),
            ([user(IMAGE, "a"), assistant(""), user("b")], "<image>Question: a Answer:\nQuestion: b Answer:"),
            ([user("red apple"), assistant(IMAGE), user("Color?")], "red apple <image>Question: Color? Answer:"),
        ],
    )
    @pytest.mark.parametrize("add_generation_prompt", [False, True])
    def test_of_users(self, processor, chat, prompt, add_generation_prompt):
        assert processor.apply_chat_template(chat, add_generation_prompt=add_generation_prompt) == prompt

    def test_follow_each_other_as_in_training(self, processor, tokenizer):
        """Each answer ends with the end of sequence, as generated ids do; so a second turn goes on from a cache."""
        chat = [user(IMAGE, "a?"), assistant(" a dog "), user("b?"), assistant("two"), user("c?")]
        ids = processor.apply_chat_template(chat, tokenize=True)[0].tolist()
        texts = ["Question: a? Answer: a dog", "Question: b? Answer: two", "Question: c? Answer:"]
        first, second, third = (tokenizer(text, add_special_tokens=False).input_ids for text in texts)
        assert ids == [*SLOT, *first, EOS, *second, EOS, *third]
        assert ids[: len(SLOT + first) + 1] == processor.apply_chat_template(chat[:2], tokenize=True)[0].tolist()

    def test_a_prompt_is_a_prefix_of_itself_with_its_answer(self, processor):
        for turn in (user(IMAGE, "a?"), user(IMAGE), user("a?")):
            prompt = processor.apply_chat_template([turn], tokenize=True)[0].tolist()
            whole = processor.apply_chat_template([turn, assistant("a dog")], tokenize=True)[0].tolist()
            assert whole[: len(prompt)] == prompt and whole[-1] == EOS

    def test_last_one_is_painted_in_image_mode(self, processor):
        chat = [user(IMAGE, "What?"), assistant("a dog"), user("in the style of ", IMAGE)]
        prompt = processor.apply_chat_template(chat, generation_mode="image")
        assert prompt == f"<image>Question: What? Answer: a dog{ESCAPE}</s>in the style of <image>"
        expected = processor(images=IMAGE["image"], text="<image> red", generation_mode="image").input_ids
        told = {"generation_mode": "image"}
        for settings in (told, {"processor_kwargs": told}):
            ids = processor.apply_chat_template([user(IMAGE, " red")], tokenize=True, **settings)
            assert torch.equal(ids, expected)

    @pytest.mark.parametrize("prefill", ["A cat", "A cat ", ""])
    def test_final_one_is_continued(self, processor, prefill):
        chat = [user(IMAGE, "a?"), assistant(prefill)]
        prompt = processor.apply_chat_template(chat, continue_final_message=True)
        assert prompt == f"<image>Question: a? Answer: {prefill}".rstrip()


class TestWording:
    def test_is_a_setting_of_the_repo(self, tokenizer, tmp_path):
        asks_shortly = LaVITProcessor(LaVITImageProcessorPil(), tokenizer, question_template='Q "{}"\nA:')
        asks_shortly.save_pretrained(tmp_path)
        loaded = LaVITProcessor.from_pretrained(tmp_path)
        for processor in (asks_shortly, loaded):
            assert processor.format_question("why?") == 'Q "why?"\nA:'
            assert processor.apply_chat_template([user(IMAGE, "why?")]) == '<image>Q "why?"\nA:'

    def test_set_later_goes_for_chats_too(self, tokenizer):
        processor = LaVITProcessor(LaVITImageProcessorPil(), tokenizer)
        processor.question_template = "{} In short:"
        assert processor.apply_chat_template([user("why?")]) == processor.format_question("why?") == "why? In short:"

    def test_template_stands_by_itself(self, processor, tokenizer):
        """Software that renders the file alone passes no settings."""
        tokenizer.chat_template = processor.chat_template
        try:
            assert tokenizer.apply_chat_template([user(IMAGE, "a?")], tokenize=False) == "<image>Question: a? Answer:"
        finally:
            tokenizer.chat_template = None

    def test_own_template_gets_the_settings_it_names(self, tokenizer):
        processor = LaVITProcessor(
            LaVITImageProcessorPil(), tokenizer, "{{ messages[0]['content'] }}{{ image_token }}"
        )
        assert processor.apply_chat_template([{"role": "user", "content": "a"}]) == "a<image>"

    @pytest.mark.parametrize("template", ["Question:", "{} or {}", None, 3])
    def test_without_a_place_for_the_question(self, tokenizer, template):
        with pytest.raises(ValueError, match=r"`question_template` is .*, but it must be a text with one `{}`"):
            LaVITProcessor(LaVITImageProcessorPil(), tokenizer, question_template=template)


class TestTextIsText:
    @pytest.mark.parametrize("text", ["<image>", "the tag <image> x", "</s>", f"{ESCAPE}</s>", f"{ESCAPE}<image>"])
    @pytest.mark.parametrize("images", [0, 2])
    def test_whatever_users_write(self, processor, tokenizer, text, images):
        chat = [user(*[IMAGE] * images, text), assistant(text), user("b")]
        inputs = processor.apply_chat_template(chat, tokenize=True, return_dict=True)
        said = text.replace(ESCAPE, "")
        asked, again = f"Question: {said} Answer: {said}", "Question: b Answer:"
        first, second = (
            tokenizer(part, add_special_tokens=False, split_special_tokens=True).input_ids for part in (asked, again)
        )
        assert inputs.input_ids[0].tolist() == [*SLOT * images, *first, EOS, *second]
        # In two steps, as trainers do it.
        prompt = processor.apply_chat_template(chat)
        two_steps = processor(text=prompt, images=[IMAGE["image"]] * images or None)
        assert torch.equal(two_steps.input_ids, inputs.input_ids)

    def test_offsets_are_those_of_the_prompt(self, processor):
        prompt = processor.apply_chat_template([user(IMAGE, "tag <image> x"), assistant("a <image> b")])
        inputs = processor(text=prompt, images=IMAGE["image"], return_offsets_mapping=True)
        for id, (start, end) in zip(inputs.input_ids[0].tolist(), inputs.offset_mapping[0].tolist()):
            if end > start:
                said = prompt[start:end].replace(ESCAPE, "").strip()
                assert said == processor.decode([id]).strip()


class TestAssistantMask:
    def test_answers_and_their_ends(self, processor):
        chat = [user(IMAGE, "tag <image>?"), assistant("a dog"), user("b?", IMAGE), assistant("c <image> d")]
        inputs = processor.apply_chat_template(
            chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
        )
        mask = inputs.assistant_masks.bool()
        assert processor.decode(inputs.input_ids[mask]) == "a dog</s> c <image> d</s>"
        plain = processor.apply_chat_template(chat, tokenize=True)
        assert torch.equal(inputs.input_ids, plain)

    def test_padded_batch(self, processor):
        chats = [[user(IMAGE, "a?"), assistant("dog")], [user(IMAGE), assistant("a red square on white")]]
        inputs = processor.apply_chat_template(
            chats, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
        )
        answers = [ids[mask.bool()] for ids, mask in zip(inputs.input_ids, inputs.assistant_masks)]
        assert [processor.decode(ids) for ids in answers] == ["dog</s>", "a red square on white</s>"]


class TestErrors:
    @pytest.mark.parametrize(
        ("chat", "message"),
        [
            ("hello", "A chat is a list of messages"),
            (["hello"], "A chat is a list of messages"),
            ({"role": "user", "content": "a"}, "A chat is a list of messages"),
            (3, "A chat is a list of messages"),
            ([3], "Chat messages should be dicts"),
            (
                [{"content": "a"}],
                "The role of message 0 of chat 0 is None, but LaVIT only knows the roles 'system', 'user'",
            ),
            ([user("a"), user("b") | {"role": "tool"}], "The role of message 1 of chat 0 is 'tool'"),
            ([user({"type": "image_url"})], "not 'image_url' as in message 0 of chat 0"),
            ([user({"type": "table"})], "not 'table' as in message 0 of chat 0"),
            ([[user("a")], [user({"type": "image"})]], "image' of message 0 of chat 1 holds no image. Pass one, as"),
            ([user({"type": "image", "image": None})], "of message 0 of chat 0 holds no image"),
            ([user({"type": "image", "path": "a", "url": "b"})], r"holds several images \(url, path\)"),
        ],
    )
    def test_one_sentence_each(self, processor, chat, message):
        with pytest.raises(ValueError, match=message):
            processor.apply_chat_template(chat, tokenize=True)

    def test_images_may_come_beside_the_chat(self, processor):
        ids = processor.apply_chat_template(
            [user({"type": "image"}, "a?")], tokenize=True, processor_kwargs={"images": [IMAGE["image"]]}
        )
        assert ids[0, :2].tolist() == SLOT

    def test_two_modes(self, processor):
        with pytest.raises(ValueError, match=r"contradictory \('image' by generation_mode and 'text' by"):
            processor.apply_chat_template(
                [user("a")], generation_mode="image", processor_kwargs={"generation_mode": "text"}
            )


def test_template_of_older_repos_asks_now(tokenizer):
    """One that is a setting of its repo stays, the default of that time does not."""
    older = (
        "{%- for message in messages -%}\n    {%- if not loop.first -%}{{- '\n' -}}{%- endif -%}\n"
        "    {%- if message['content'] is string -%}\n        {{- message['content'] -}}\n    {%- else -%}\n"
        "        {%- for part in message['content'] or [] -%}\n            {%- if part['type'] == 'image' -%}\n"
        "                {{- '<|x|>' -}}\n            {%- elif part['type'] == 'text' -%}\n"
        "                {{- part['text'] -}}\n            {%- else -%}\n                "
        "{{- raise_exception(\"LaVIT reads parts of type 'text' and 'image', not '\" ~ part['type'] ~ \"'.\") -}}\n"
        "            {%- endif -%}\n        {%- endfor -%}\n    {%- endif -%}\n{%- endfor -%}\n"
    )
    for template, prompt in ((older, "Question: a Answer:"), (older + "!", "a!")):
        processor = LaVITProcessor(LaVITImageProcessorPil(), tokenizer, template, image_token="<|x|>")
        assert processor.apply_chat_template([user("a")]) == prompt

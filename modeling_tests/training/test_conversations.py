# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Instruction tuning on conversations in LLaVA's form, on the golden checkpoint, whose tokenizer is a real one."""

import json
import logging
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image
from transformers import TrainingArguments

from lavit_hf import LaVITForCausalLM, LaVITProcessor
from lavit_hf.training.conversation_collator import ConversationCollator
from lavit_hf.training.conversations import load_conversations
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.settings import load_settings
from training_runs import EXAMPLES, load_script, logged, run_script, weights, write_pictures, write_run


peft = pytest.importorskip("peft")


def say(*texts: str) -> list[dict]:
    """Turns of a person and the model, one after the other."""
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


def row(*texts: str, **fields) -> dict:
    return {**fields, "conversations": say(*texts)}


def write_rows(folder: Path, rows: list, name: str = "chats.json") -> str:
    if not (folder / "0.png").exists():
        for number, path in enumerate(write_pictures(folder, 4)):
            path.rename(folder / f"{number}.png")
    (folder / name).write_text("\n".join(map(json.dumps, rows)) if name.endswith("l") else json.dumps(rows))
    return str(folder / name)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("pictures"), 4)


@pytest.fixture(scope="module")
def processor(converted) -> LaVITProcessor:
    return LaVITProcessor.from_pretrained(converted)


@pytest.fixture(scope="module")
def config(converted):
    return LaVITForCausalLM.from_pretrained(converted).config


@pytest.fixture(scope="module")
def collate(processor, config):
    return ConversationCollator(processor, config, max_text_length=64, most_images=2)


def sequences(batch: dict[str, torch.Tensor]) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of each row, without padding."""
    reals = [mask.bool() for mask in batch["attention_mask"]]
    rows = zip(batch["input_ids"], batch["labels"], reals)
    return [(ids[real].tolist(), labels[real].tolist()) for ids, labels, real in rows]


class TestLayout:
    def test_as_inference_asks(self, processor, collate, tmp_path):
        """A question by itself is what `format_question` makes, and its answer ends the sequence."""
        source = write_rows(tmp_path, [row("<image>\nWhat is it?", "a house", image="0.png")])
        batch = collate(list(load_conversations(source, "train")))
        picture = Image.open(tmp_path / "0.png")
        asked, answered = (
            processor(images=picture, text=processor.format_question("What is it?") + answer)
            for answer in ("", " a house")
        )
        (ids, labels) = sequences(batch)[0]
        assert ids == [*answered.input_ids[0].tolist(), processor.eos_token_id]
        prompt = asked.input_ids.shape[1]
        assert labels == [*[-100] * prompt, *ids[prompt:]]
        assert torch.equal(batch["pixel_values"], asked.pixel_values)

    def test_turns_and_images(self, processor, collate, tmp_path):
        rows = [
            row("<image><image>What is it?", "a house", "And <image> this?", "no", image=["0.png", "1.png", "2.png"]),
            row("How are you?", "well", id="text-only"),
            row("", "a caption", images=["3.png"]),
        ]
        data = load_conversations(write_rows(tmp_path, rows), "train")
        assert data.most_images == 3
        batch = collate(list(data))
        shown = [Image.open(tmp_path / f"{number}.png") for number in range(4)]
        assert torch.equal(batch["pixel_values"], processor.image_processor(shown, return_tensors="pt").pixel_values)
        end = processor.eos_token_id
        answers, slots = [], []
        for ids, labels in sequences(batch):
            assert all(label in (-100, id) for id, label in zip(ids, labels))
            learned = [label for label in labels if label != -100]
            assert learned[-1] == ids[-1] == end
            answers.append([processor.decode(part).strip() for part in split_at(learned, end)])
            slots.append(ids.count(processor.image_start_token_id))
        assert answers == [["a house", "no"], ["well"], ["a caption"]]
        assert slots == [3, 0, 1]

    def test_is_the_chat_templates(self, processor, collate, tmp_path):
        source = write_rows(tmp_path, [row("<image>\nWhat is it?", "a house", "Sure?", "yes", image="1.png")])
        chat = load_conversations(source, "train")[0]
        assert [part["type"] for part in chat[0]["content"]] == ["image", "text"]
        expected = processor.apply_chat_template(chat, tokenize=True, return_dict=True)
        assert sequences(collate([chat]))[0][0] == expected.input_ids[0].tolist()

    def test_tokens_that_are_spelled_out_stay_text(self, processor, collate, tmp_path):
        text = "a [IMG] b [/IMG] <code_7> </s> <s>"
        source = write_rows(tmp_path, [row(f"<image>{text}", text, image="0.png")])
        ids, labels = sequences(collate(list(load_conversations(source, "train"))))[0]
        special = set(processor.tokenizer.all_special_ids)
        assert not special & set(ids[2:-1]) and max(ids[2:]) < processor.image_start_token_id
        assert processor.tokenizer.decode([label for label in labels[:-1] if label != -100]).strip() == text

    def test_long_conversations_are_cut_and_counted(self, processor, config, tmp_path):
        source = write_rows(tmp_path, [row("<image>Who?", "a house", "<image>And?", "b", image=["0.png", "1.png"])])
        rows = list(load_conversations(source, "train"))
        whole, _ = sequences(ConversationCollator(processor, config, 64, 2)(rows))[0]
        second = [n for n, id in enumerate(whole) if id == processor.image_start_token_id][1]
        collator = ConversationCollator(processor, config, second - 3, 2)
        batch = collator(rows)
        (ids, _), pixel_values = sequences(batch)[0], batch["pixel_values"]
        assert ids == whole[: second - 1] and len(pixel_values) == 1
        assert collator.num_cut == 1


def split_at(ids: list[int], end: int) -> list[list[int]]:
    parts, part = [], []
    for id in ids:
        if id == end:
            parts.append(part)
            part = []
        else:
            part.append(id)
    return parts


class TestSources:
    ROWS = (row("<image>Who?", "a house", image="0.png"), row("And?", "a boat"))

    @pytest.mark.parametrize("name", ["chats.json", "chats.jsonl", "train.json", "metadata.jsonl"])
    def test_files(self, tmp_path, name):
        source = write_rows(tmp_path, list(self.ROWS), name)
        for given in [source] if name.startswith("chats") else [source, str(tmp_path)]:
            chats = list(load_conversations(given, "train"))
            assert [[part["type"] for part in chat[0]["content"]] for chat in chats] == [["image", "text"], ["text"]]
            assert chats[1][1] == {"role": "assistant", "content": [{"type": "text", "text": "a boat"}]}

    def test_separators_of_lines_inside_a_text(self, tmp_path):
        told = "one\u2028two\x85three"
        line = json.dumps(row("And?", told), ensure_ascii=False)
        (tmp_path / "chats.jsonl").write_text(f"{line}\r\n{line}\n", encoding="utf-8", newline="")
        chats = list(load_conversations(str(tmp_path / "chats.jsonl"), "train"))
        assert [chat[1]["content"][0]["text"] for chat in chats] == [told, told]

    def test_splits_of_a_folder(self, tmp_path):
        write_rows(tmp_path, list(self.ROWS), "train.json")
        write_rows(tmp_path, [self.ROWS[1]], "validation.json")
        assert [len(load_conversations(str(tmp_path), split)) for split in ("train", "validation")] == [2, 1]

    def test_data_sets(self, pictures, tmp_path):
        """As datasets saves them, with images inside; and in the form of chats, with parts."""
        pixels = [Image.open(path) for path in pictures[:2]]
        parts = [
            [{"type": "image", "text": None}, {"type": "text", "text": "Who?"}],
            [{"type": "text", "text": "you"}],
        ]
        messages = [{"role": role, "content": part} for role, part in zip(("user", "assistant"), parts)]
        for name, columns in {
            "one": {"image": pixels, "conversations": [say("<image>Who?", "you")] * 2},
            "many": {"images": [pixels[:1], pixels[1:]], "messages": [messages] * 2},
        }.items():
            datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)}).save_to_disk(tmp_path / name)
            chats = list(load_conversations(str(tmp_path / name), "train"))
            for chat, picture in zip(chats, pixels):
                assert [part["type"] for part in chat[0]["content"]] == ["image", "text"]
                assert chat[0]["content"][1]["text"] == "Who?" and chat[1]["content"][0]["text"] == "you"
                assert chat[0]["content"][0]["image"].tobytes() == picture.convert("RGB").tobytes()

    def test_pictures_that_cannot_be_read(self, tmp_path, caplog):
        rows = [*self.ROWS, row("<image>What?", "x", image="gone.png", id="lost")]
        source = write_rows(tmp_path, rows)
        with caplog.at_level(logging.WARNING):
            assert len(load_conversations(source, "train")) == 2
        assert f"skipped row 2 of {source} (id lost), whose image cannot be read" in caplog.text
        assert "skipped 1 of 3 rows" in caplog.text
        with pytest.raises(TrainingError, match=r"none of the 1 rows of .* has images"):
            load_conversations(write_rows(tmp_path, rows[2:], "lost.json"), "train")


@pytest.mark.slow
class TestTraining:
    @pytest.fixture(scope="class")
    def output(self, converted, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("run")
        rows = [
            row("<image>\nWho is it?", "a red house", image="0.png"),
            row("<image>\nWho is it?", "two dogs", "Sure?", "yes", image="1.png"),
            row("<image><image>Which is larger?", "the sea", image=["2.png", "3.png"]),
            row("Say it.", "no"),
        ]
        write_rows(folder, rows, "train.json")
        run = write_run(
            folder / "run.yaml",
            model=str(converted),
            dataset=str(folder),
            task="conversations",
            max_text_length=64,
            max_steps=80,
            learning_rate=1e-2,
            lora_rank=8,
            train_merger=True,
            save="merged",
            save_strategy="steps",
            save_steps=80,
            logging_steps=5,
        )
        return run_script(load_script("finetune"), run)

    def test_learns_the_answers(self, output, processor):
        losses = logged(output, "text_loss")
        assert losses[-1] < 0.2 * losses[0]
        model = LaVITForCausalLM.from_pretrained(output / "merged").eval()
        model.visual_tokenizer.config.selection = "threshold"
        for images, question, answer in [
            (["0.png"], "Who is it?", "a red house"),
            (["1.png"], "Who is it?", "two dogs"),
            (["2.png", "3.png"], "Which is larger?", "the sea"),
        ]:
            inputs = processor(
                images=[[str(output.parent / name) for name in images]], text=[processor.format_question(question)]
            )
            ids = model.generate(**inputs, num_beams=1, min_new_tokens=1, max_new_tokens=12)
            assert processor.post_process_image_text_to_text(ids[:, inputs.input_ids.shape[1] :]) == [answer]

    def test_what_is_not_trained_stays(self, output, converted):
        before, after = weights(converted), weights(output / "merged")
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        trained = ("language_model.model.layers.", "understanding.merger.", "understanding.projection.")
        assert changed and all(name.startswith(trained) for name in changed)

    def test_targets_are_the_answers(self, output, converted, collate):
        """The loss that is logged first is that of the answers' tokens, by hand."""
        batch = collate(list(load_conversations(str(output.parent), "train")))
        assert (batch["labels"] != -100).sum() == sum(
            len([label for label in labels if label != -100]) for _, labels in sequences(batch)
        )
        model = LaVITForCausalLM.from_pretrained(converted, dtype=torch.float32).eval()
        model.visual_tokenizer.config.selection = "threshold"
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = model(**batch).logits
            loss = model(**batch, labels=labels).loss
        expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


class TestBadInput:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (row(), "has no turns. A row looks like"),
            ({"image": "0.png"}, "has no turns"),
            ({"conversations": "Who?"}, "has no turns"),
            ("Who?", "is not a JSON object"),
            (row("<image>Who?", image="0.png"), "has turns from user. Questions and answers must alternate"),
            ({"conversations": say("Who?", "x")[::-1]}, "has turns from assistant, user"),
            ({"conversations": [{"from": "tool", "value": "x"}]}, r"turn 1 of row 1 of .* is from 'tool'"),
            ({"conversations": [{"value": "x"}]}, r"turn 1 of row 1 of .* is from None"),
            ({"conversations": ["x"]}, r"turn 1 of row 1 of .* is from None"),
            ({"conversations": [{"from": "human"}]}, r"turn 1 of row 1 of .* has no text: its value is None"),
            ({"conversations": [{"from": "human", "value": 3}]}, "has no text: its value is 3"),
            (row("<image>Who?", "x"), "has <image> 1 times, but 0 images"),
            (row("<image><image>Who?", "x", image="0.png"), "has <image> 2 times, but 1 images"),
            (row("<image>Who?", "x", image=["0.png", "1.png"]), "has <image> 1 times, but 2 images"),
            (row("Who?", "<image>", image="0.png"), "has an <image> in an answer"),
            (row("<image>Who?", " ", image="0.png"), "turn 2 of row 1 of .* is empty"),
            (row(" ", "x"), "turn 1 of row 1 of .* is empty"),
            (row("<image>Who?", "x", image={"bytes": "?"}), "not as paths"),
        ],
    )
    def test_rows(self, tmp_path, bad, message):
        bad = bad | {"id": "bad"} if isinstance(bad, dict) else bad
        source = write_rows(tmp_path, [row("Who?", "you"), bad])
        name = r"row 1 of .*chats\.json" + (r" \(id bad\)" if isinstance(bad, dict) else "")
        with pytest.raises(TrainingError, match=name) as refused:
            load_conversations(source, "train")
        assert refused.match(message)

    def test_files(self, tmp_path, processor, config):
        source = write_rows(tmp_path, [row("Who?", "you")])
        with pytest.raises(TrainingError, match=r"is a single split and has no 'test'. Pass a folder with test\.json"):
            load_conversations(source, "test")
        (tmp_path / "cut.json").write_text('[{"image"')
        with pytest.raises(TrainingError, match=r"cut\.json cannot be read"):
            load_conversations(str(tmp_path / "cut.json"), "train")
        (tmp_path / "none.json").write_text("{}")
        with pytest.raises(TrainingError, match=r"none\.json does not hold a list of rows"):
            load_conversations(str(tmp_path / "none.json"), "train")
        with pytest.raises(TrainingError, match="no column conversations or messages, only image"):
            load_conversations(str(tmp_path), "train")

    def test_what_the_model_cannot_take(self, processor, config, converted):
        with pytest.raises(TrainingError, match=r"a conversation with 999 images may be .* Lower max_text_length"):
            ConversationCollator(processor, config, 64, most_images=999)
        plain = LaVITProcessor.from_pretrained(converted, chat_template="{{ messages[0]['content'] }}")
        with pytest.raises(TrainingError, match="does not mark answers"):
            ConversationCollator(plain, config, 64)

    @pytest.mark.parametrize("run", ["finetune_conversations", "7b_finetune_conversations"])
    def test_run_files_are_good(self, run):
        path = str(EXAMPLES / "runs" / f"{run}.yaml")
        settings = load_script("finetune").FinetuneSettings
        settings, _ = load_settings(settings, TrainingArguments, arguments=[path, "--use_cpu", "true"])
        assert settings.task == "conversations"

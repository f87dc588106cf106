# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Finetuning on a user's own folder, on the golden checkpoint, whose tokenizer is a real one."""

import json
import logging
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments


peft = pytest.importorskip("peft")
pytest.importorskip("datasets")


from command_line import STEPS, json_lines, succeed  # noqa: E402
from lavit_hf import LaVITForCausalLM, LaVITProcessor  # noqa: E402
from lavit_hf.training.errors import TrainingError  # noqa: E402
from lavit_hf.training.language_collator import LanguageCollator  # noqa: E402
from lavit_hf.training.picture_texts import load_picture_texts, make_sample  # noqa: E402
from lavit_hf.training.seeding import SeedPerProcess  # noqa: E402
from lavit_hf.training.settings import load_settings  # noqa: E402
from training_runs import (  # noqa: E402
    EXAMPLES,
    callbacks_of,
    load_script,
    logged,
    run_script,
    weights,
    write_pictures,
    write_run,
)


CAPTIONS = ["a red house", "two small dogs", "the sea at night", "an old green car"]


@pytest.fixture(scope="module")
def script():
    return load_script("finetune")


@pytest.fixture(scope="module")
def processor(converted) -> LaVITProcessor:
    return LaVITProcessor.from_pretrained(converted)


@pytest.fixture(scope="module")
def collate(converted, processor):
    collator = LanguageCollator(processor, LaVITForCausalLM.from_pretrained(converted).config, max_text_length=64)

    def collate_rows(rows: list[dict], task: str) -> dict[str, torch.Tensor]:
        return collator([make_sample(row, task, processor) for row in rows])

    return collate_rows


def write_folder(folder: Path, rows: list[dict]) -> list[Path]:
    """Images with a line of `metadata.jsonl` for each."""
    paths = write_pictures(folder, len(rows))
    lines = [json.dumps({"file_name": path.name, **row}) + "\n" for path, row in zip(paths, rows)]
    (folder / "metadata.jsonl").write_text("".join(lines))
    return paths


@pytest.fixture(scope="module")
def captions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("captions")
    write_folder(folder, [{"text": text} for text in CAPTIONS])
    return folder


@pytest.fixture(scope="module")
def merged(script, converted, captions, tmp_path_factory) -> Path:
    """The output of a run that has learned four captions by heart."""
    run = write_run(
        tmp_path_factory.mktemp("merged") / "run.yaml",
        model=str(converted),
        dataset=str(captions),
        max_steps=40,
        learning_rate=2e-2,
        lora_rank=8,
        train_merger=True,
        save="merged",
        save_strategy="steps",
        save_steps=40,
        logging_steps=5,
    )
    return run_script(script, run)


def captions_of(model, processor: LaVITProcessor, folder: Path) -> list[str]:
    """The model's captions of a folder's images."""
    model.eval().config.visual_tokenizer_config.selection = "threshold"
    inputs = processor(images=[str(path) for path in sorted(folder.glob("*.png"))], return_tensors="pt")
    ids = model.generate(**inputs, num_beams=1, min_new_tokens=1, max_new_tokens=12)
    return processor.post_process_image_text_to_text(ids)


@pytest.mark.slow
class TestCaptions:
    def test_loss_falls(self, merged):
        losses = logged(merged, "text_loss")
        assert losses[-1] < 0.4 * losses[0]

    def test_merged_writes_what_it_learned(self, merged, captions):
        """As inference asks for it: so the prompt that was learned is the processor's."""
        model = LaVITForCausalLM.from_pretrained(merged / "merged")
        assert captions_of(model, LaVITProcessor.from_pretrained(merged / "merged"), captions) == CAPTIONS

    def test_adapter_on_the_base_writes_the_same(self, merged, converted, captions):
        base = LaVITForCausalLM.from_pretrained(converted, dtype=torch.float32)
        model = peft.PeftModel.from_pretrained(base, merged / "adapter")
        assert captions_of(model, LaVITProcessor.from_pretrained(merged / "adapter"), captions) == CAPTIONS

    def test_only_what_was_asked_for_changes(self, merged, converted):
        before, after = weights(converted), weights(merged / "merged")
        assert before.keys() == after.keys()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        trained = ("language_model.model.layers.", "understanding.merger.", "understanding.projection.")
        assert changed and all(name.startswith(trained) for name in changed)
        for part in trained:
            assert any(name.startswith(part) for name in changed)
        assert {after[name].dtype for name in changed} == {torch.float16}  # the base's

    def test_command_line_takes_both(self, merged, captions):
        """In half precision, as they are stored."""
        pictures = sorted(captions.glob("*.png"))
        of_adapter, of_merged = (
            json_lines(succeed("caption", *pictures, "-m", merged / name, "--num-beams", "1", "--json", "--seed", "0"))
            for name in ("adapter", "merged")
        )
        assert of_adapter == of_merged
        assert all(line["caption"].startswith(caption) for line, caption in zip(of_adapter, CAPTIONS))

    def test_adapter_names_its_base_wherever_it_is_used(self, merged, converted, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        base = Path(json.loads((merged / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"])
        assert base.is_absolute() and base == converted.resolve()

    def test_checkpoints_hold_the_adapter_alone(self, merged):
        names = {path.name for path in (merged / "checkpoint-40").iterdir()}
        assert "adapter_model.safetensors" in names and "model.safetensors" not in names

    def test_processes_draw_other_noise(self, script, converted, captions, tmp_path):
        run = write_run(tmp_path / "run.yaml", model=str(converted), dataset=str(captions))
        assert SeedPerProcess in callbacks_of(script, run)

    def test_goes_on_where_it_was_cut(self, script, converted, captions, tmp_path):
        run = write_run(
            tmp_path / "run.yaml",
            model=str(converted),
            dataset=str(captions),
            save_strategy="steps",
            save_steps=2,
            max_steps=4,
        )
        whole = run_script(script, run)
        cut = tmp_path / "cut"
        run_script(script, run, "--output_dir", str(cut))
        (cut / "checkpoint-4" / "trainer_state.json").unlink()
        run_script(script, run, "--output_dir", str(cut))
        expected, resumed = (peft.load_peft_weights(folder / "adapter", device="cpu") for folder in (whole, cut))
        assert expected.keys() == resumed.keys()
        assert all(torch.equal(expected[name], resumed[name]) for name in expected)


@pytest.mark.slow
def test_merged_paints_as_the_base_does(script, repos, captions, tmp_path):
    repo = repos["highres"]
    run = write_run(tmp_path / "run.yaml", model=str(repo), dataset=str(captions), save="merged", learning_rate=1e-2)
    output = run_script(script, run)
    kept = ("unet", "vae", "detokenizer", "scheduler")
    files = [path.relative_to(repo) for name in kept for path in (repo / name).iterdir()]
    assert files and all((output / "merged" / file).read_bytes() == (repo / file).read_bytes() for file in files)
    drawn = {}
    for name in ("adapter", "merged"):
        path = tmp_path / f"{name}.png"
        options = ("-o", path, "--seed", "0", "--json", *STEPS)
        ids = json_lines(succeed("draw", "a cat", "-m", output / name, *options))[0]["token_ids"]
        drawn[name] = ids, path.read_bytes()
    assert drawn["adapter"] == drawn["merged"]
    trained = weights(output / "merged" / "language_model")
    before = weights(repo / "language_model")
    assert trained.keys() == before.keys() and any(not torch.equal(trained[name], before[name]) for name in trained)


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_quantized_base(script, converted, captions, tmp_path, bits):
    pytest.importorskip("bitsandbytes")
    run = write_run(
        tmp_path / "run.yaml",
        model=str(converted),
        dataset=str(captions),
        quantize=bits,
        save="merged",
        save_strategy="steps",
        save_steps=8,
        max_steps=8,
        learning_rate=1e-2,
        gradient_checkpointing=True,
    )
    output = run_script(script, run)
    losses = logged(output)
    assert losses[-1] < losses[0]
    model = LaVITForCausalLM.from_pretrained(output / "merged")
    assert not getattr(model.config, "quantization_config", None)
    layers = {
        name: tensor
        for name, tensor in weights(output / "merged").items()
        if "language_model" in name and "q_proj" in name
    }
    base = weights(converted)
    assert layers and all((tensor - base[name]).abs().max() > 0 for name, tensor in layers.items())


class TestLayout:
    def test_caption(self, collate, processor, captions):
        rows = list(load_picture_texts(str(captions), "train", "captions"))
        batch = collate(rows, "captions")
        asked = processor(images=[row["image"] for row in rows], text=CAPTIONS, padding=True, return_tensors="pt")
        assert torch.equal(batch["pixel_values"], asked.pixel_values)
        for ids, mask, labels, expected, expected_mask in zip(
            batch["input_ids"], batch["attention_mask"], batch["labels"], asked.input_ids, asked.attention_mask
        ):
            ids, labels = ids[mask.bool()].tolist(), labels[mask.bool()].tolist()
            expected = [*expected[expected_mask.bool()].tolist(), processor.tokenizer.eos_token_id]
            assert ids == expected
            assert labels == [-100, -100, *expected[2:]]

    def test_question(self, collate, processor, tmp_path):
        rows = [
            {"question": "What is this?", "answer": "a house"},
            {"question": " How many are there? ", "answer": " 3\n"},
        ]
        write_folder(tmp_path, rows)
        rows = list(load_picture_texts(str(tmp_path), "train", "questions"))
        batch = collate(rows, "questions")
        for number, (question, answer) in enumerate([("What is this?", "a house"), ("How many are there?", "3")]):
            prompt = processor.format_question(question)
            asked, answered = (
                processor(images=rows[number]["image"], text=text).input_ids[0].tolist()
                for text in (prompt, f"{prompt} {answer}")
            )
            real = batch["attention_mask"][number].bool()
            ids, labels = batch["input_ids"][number, real].tolist(), batch["labels"][number, real].tolist()
            assert ids == [*answered, processor.tokenizer.eos_token_id]
            assert labels == [*[-100] * len(asked), *ids[len(asked) :]]

    def test_tokens_that_are_spelled_out_stay_text(self, collate, processor, tmp_path):
        text = "a [IMG] b [/IMG] <code_7> <image> </s> <s>"
        write_folder(tmp_path, [{"text": text}])
        batch = collate(list(load_picture_texts(str(tmp_path), "train", "captions")), "captions")
        *ids, last = batch["input_ids"][0, 2:].tolist()
        special = set(processor.tokenizer.all_special_ids)
        assert last == processor.tokenizer.eos_token_id
        assert not special & set(ids) and max(ids) < processor.tokenizer.image_start_token_id
        assert processor.tokenizer.decode(ids).strip() == text

    def test_a_long_text_is_cut_and_counted(self, converted, processor, captions):
        config = LaVITForCausalLM.from_pretrained(converted).config
        collator = LanguageCollator(processor, config, max_text_length=2)
        rows = load_picture_texts(str(captions), "train", "captions")
        batch = collator([make_sample(row, "captions", processor) for row in rows])
        assert batch["input_ids"].shape == (4, 4)
        assert processor.tokenizer.eos_token_id not in batch["input_ids"]
        assert collator.num_cut == 4


class TestBadInput:
    @pytest.mark.parametrize("task", ["captions", "questions"])
    def test_run_files_are_good(self, script, task):
        run = str(EXAMPLES / "runs" / f"finetune_{task}.yaml")
        settings, _ = load_settings(script.FinetuneSettings, TrainingArguments, arguments=[run, "--use_cpu", "true"])
        assert settings.task == task

    def test_rows_without_a_text_are_left_out(self, tmp_path, caplog):
        paths = write_folder(tmp_path, [{"text": "one"}, {"text": " \n"}, {"text": None}, {"text": "four"}])
        paths[3].write_bytes(b"no picture")
        with caplog.at_level(logging.WARNING):
            rows = load_picture_texts(str(tmp_path), "train", "captions")
        assert rows["text"][:] == ["one"]
        for path in paths[1:3]:
            assert f"skipped {path}, whose text is empty" in caplog.text
        assert "skipped 2 of 4 rows, whose texts are empty" in caplog.text
        assert "skipped 1 of 2 images" in caplog.text

    @pytest.mark.parametrize("answers", [(3, 0), (2.5, 0.0)])
    def test_answers_that_are_numbers(self, processor, tmp_path, answers):
        write_folder(tmp_path, [{"question": "How many?", "answer": answer} for answer in answers])
        rows = load_picture_texts(str(tmp_path), "train", "questions")
        samples = [make_sample(row, "questions", processor) for row in rows]
        assert [sample["answer"] for sample in samples] == [f" {answer}" for answer in answers]

    def test_answers_that_are_no_texts(self, tmp_path):
        write_folder(tmp_path, [{"question": "What?", "answer": ["a cat", "a dog"]}])
        with pytest.raises(TrainingError, match=r"a text or a number must be given .*, not \['a cat', 'a dog'\]"):
            load_picture_texts(str(tmp_path), "train", "questions")

    def test_no_text_at_all(self, tmp_path):
        write_folder(tmp_path, [{"question": "What?", "answer": ""}] * 2)
        with pytest.raises(TrainingError, match="none of the 2 rows has a text in question and answer"):
            load_picture_texts(str(tmp_path), "train", "questions")

    def test_missing_columns(self, captions):
        message = r"no column question, answer, only image, text\. .*metadata\.jsonl.*\"answer\": \"a cat\""
        with pytest.raises(TrainingError, match=message):
            load_picture_texts(str(captions), "train", "questions")

    def test_no_metadata(self, tmp_path):
        write_pictures(tmp_path, 2)
        with pytest.raises(TrainingError, match=r"no column text, only image\. .*\"file_name\": \"cat\.jpg\""):
            load_picture_texts(str(tmp_path), "train", "captions")

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(TrainingError, match=r"split 'train' of .*nowhere cannot be loaded"):
            load_picture_texts(str(tmp_path / "nowhere"), "train", "captions")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"task": "poems"}, "task must be one of captions, questions, conversations, got 'poems'"),
            ({"quantize": "2bit"}, "quantize must be 4bit, 8bit or unset, got '2bit'"),
            ({"save": "all"}, "save must be one of adapter, merged, got 'all'"),
            ({"max_text_length": 10**6}, "Lower max_text_length"),
        ],
    )
    def test_settings(self, script, converted, captions, tmp_path, settings, message):
        run = write_run(tmp_path / "run.yaml", **{"model": str(converted), "dataset": str(captions), **settings})
        with pytest.raises(TrainingError, match=message):
            run_script(script, run)

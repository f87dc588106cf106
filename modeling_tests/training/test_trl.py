# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""In TRL's `SFTTrainer`: it learns the answers' tokens and nothing else, by the loss that the model's logits give."""

import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from lavit_hf import LaVITForCausalLM, LaVITProcessor, bundled_checkpoint
from lavit_hf.tasks.loading import load_language_model, load_processor
from lavit_hf.tasks.options import DType, ModelOptions
from training_runs import EXAMPLES


datasets = pytest.importorskip("datasets")
peft = pytest.importorskip("peft")
trl = pytest.importorskip("trl")


def picture(name: str) -> Image.Image:
    return Image.open(EXAMPLES / "images" / "emoji" / f"{name}.png").convert("RGB")


def ask(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def answer(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


PENGUIN, ROCKET, CAMEL = (picture(name) for name in ("penguin", "rocket", "camel"))
TURNS = [*ask("Who?"), *answer("you"), *ask("And?"), *answer("me, too")]
SPELLED = "an <image> of [IMG] </s>"

# Rows of two, with the answers that are learned, and what `SFTConfig` is told.
CHATS = {
    "text": (
        [{"messages": ask("What is it?") + answer(SPELLED)}, {"messages": TURNS}],
        [[SPELLED], ["you", "me, too"]],
        {"assistant_only_loss": True},
    ),
    "text, prompt and completion": (
        [
            {"prompt": ask("What is it?"), "completion": answer("a bird")},
            {"prompt": TURNS[:3], "completion": TURNS[3:]},
        ],
        [["a bird"], ["me, too"]],
        {},
    ),
    "images": (
        [
            {"images": [PENGUIN], "messages": ask("What is it?") + answer(SPELLED)},
            {"images": [ROCKET, CAMEL], "messages": TURNS},
        ],
        [[SPELLED], ["you", "me, too"]],
        {"assistant_only_loss": True},
    ),
    "some without images": (
        [{"images": [PENGUIN], "messages": ask("What is it?") + answer("a bird")}, {"images": [], "messages": TURNS}],
        [["a bird"], ["you", "me, too"]],
        {"assistant_only_loss": True, "max_length": None},
    ),
    "images, prompt and completion": (
        [
            {"images": [PENGUIN], "prompt": ask("What is it?"), "completion": answer(SPELLED)},
            {"images": [ROCKET, CAMEL], "prompt": TURNS[:3], "completion": TURNS[3:]},
        ],
        [[SPELLED], ["me, too"]],
        {},
    ),
    "a column of one image": (
        [
            {"image": PENGUIN, "prompt": ask("What is it?"), "completion": answer("a bird")},
            {"image": ROCKET, "prompt": ask("Is it?"), "completion": answer("no")},
        ],
        [["a bird"], ["no"]],
        {},
    ),
}


@pytest.fixture(scope="module")
def processor() -> LaVITProcessor:
    return LaVITProcessor.from_pretrained(bundled_checkpoint())


def load() -> LaVITForCausalLM:
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype=torch.float32)
    model.visual_tokenizer.config.selection = "threshold"  # which draws nothing
    return model


def make_trainer(
    folder, rows: list[dict], processor: LaVITProcessor, peft_config=None, model=None, **settings
) -> "trl.SFTTrainer":
    common = {
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": 1,
        "per_device_train_batch_size": len(rows),
        "shuffle_dataset": False,
    }
    return trl.SFTTrainer(
        load() if model is None else model,
        trl.SFTConfig(str(folder), **common | settings),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=processor,
        peft_config=peft_config,
    )


def train(trainer: "trl.SFTTrainer") -> tuple[dict[str, torch.Tensor], float]:
    """A batch of all rows, and the loss that is logged first."""
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.train()
    return batch, next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)


def by_hand(batch: dict[str, torch.Tensor]) -> float:
    """The mean loss of the targets, from the logits of the untrained model."""
    names = ("input_ids", "attention_mask", "pixel_values")
    with torch.no_grad():
        logits = load().eval()(**{name: batch[name] for name in names if name in batch}).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()).item()


def learned(processor: LaVITProcessor, labels: torch.Tensor) -> list[str]:
    """What a row's labels say, in answers that end as a sequence does."""
    ids = labels[labels != -100].tolist()
    assert ids[-1] == processor.eos_token_id
    ends = [number for number, id in enumerate(ids) if id == processor.eos_token_id]
    starts = [0, *(end + 1 for end in ends)]
    return [processor.tokenizer.decode(ids[start:end]).strip() for start, end in zip(starts, ends)]


class TestLoss:
    @pytest.mark.parametrize("kind", CHATS)
    def test_is_that_of_the_answers(self, processor, tmp_path, kind):
        rows, answers, settings = CHATS[kind]
        batch, loss = train(make_trainer(tmp_path, rows, processor, **settings))
        assert sorted(learned(processor, labels) for labels in batch["labels"]) == sorted(answers)
        assert loss == pytest.approx(by_hand(batch), rel=1e-3)

    def test_question_is_that_of_inference(self, processor, tmp_path):
        rows, _, settings = CHATS["images"]
        batch = next(iter(make_trainer(tmp_path, rows, processor, **settings).get_train_dataloader()))
        asked = processor(images=PENGUIN, text=processor.format_question("What is it?"))
        prompt = asked.input_ids[0].tolist()
        row = next(row for row in batch["input_ids"].tolist() if row[: len(prompt)] == prompt)
        labels = batch["labels"][batch["input_ids"].tolist().index(row)]
        assert (labels[: len(prompt)] == -100).all() and labels[len(prompt)] != -100

    @pytest.mark.slow
    @pytest.mark.parametrize("lora", [False, True])
    def test_packed(self, processor, tmp_path, lora):
        """Texts that lie in one row do not see each other."""
        rows, answers, settings = CHATS["text"]
        settings = settings | {"packing": True, "max_length": 256}
        peft_config = peft.LoraConfig(target_modules=["q_proj", "v_proj"]) if lora else None
        batch, loss = train(make_trainer(tmp_path, rows, processor, peft_config, **settings))
        assert batch["input_ids"].shape[0] == 1 and "attention_mask" not in batch
        assert sorted(learned(processor, batch["labels"][0])) == sorted(text for row in answers for text in row)
        starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
        assert len(starts) == 2
        losses = []
        for start, end in zip(starts, [*starts[1:], batch["input_ids"].shape[1]]):
            ids, labels = (batch[name][:, start:end] for name in ("input_ids", "labels"))
            losses += [by_hand({"input_ids": ids, "labels": labels})] * int((labels[:, 1:] != -100).sum())
        assert loss == pytest.approx(sum(losses) / len(losses), rel=1e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize("packing", [False, True])
    def test_plain_texts(self, tmp_path, packing):
        """TRL spells the end of sequence out, which is text unless the processor is told otherwise."""
        processor = LaVITProcessor.from_pretrained(bundled_checkpoint(), split_special_tokens=False)
        rows = [{"text": "a bird on the ice"}, {"text": "two"}]
        trainer = make_trainer(tmp_path, rows, processor, packing=packing, max_length=64)
        batch, _ = train(trainer)
        ids = batch["input_ids"][batch["labels"] != -100]
        assert (ids == processor.eos_token_id).sum() == 2
        assert "</s>" not in processor.tokenizer.decode(ids[ids != processor.eos_token_id])


@pytest.mark.slow
class TestModelByItsPath:
    def test_trains(self, tmp_path, processor):
        trainer = make_trainer(tmp_path, [{"messages": TURNS}], processor, model=str(bundled_checkpoint()))
        assert type(trainer.model) is LaVITForCausalLM
        assert torch.isfinite(torch.tensor(trainer.train().training_loss))


class TestLora:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory):
        """An adapter that has learned to answer, as a user trains and saves it."""
        folder, processor = tmp_path_factory.mktemp("lora"), LaVITProcessor.from_pretrained(bundled_checkpoint())
        rows, _, settings = CHATS["images"]
        settings = settings | {"max_steps": 30, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}
        config = peft.LoraConfig(r=8, target_modules="all-linear", exclude_modules=r".*\.merger\..*")
        trainer = make_trainer(folder, rows, processor, config, **settings)
        trainer.train()
        trainer.save_model(str(folder / "adapter"))
        return trainer, folder / "adapter"

    def test_loss_falls(self, trained):
        losses = [entry["loss"] for entry in trained[0].state.log_history if "loss" in entry]
        assert losses[-1] < 0.2 * losses[0]

    def test_what_is_frozen_stays(self, trained):
        before = load().state_dict()
        after = {
            name.removeprefix("base_model.model.").replace(".base_layer.", "."): tensor
            for name, tensor in trained[0].model.state_dict().items()
            if "lora_" not in name
        }
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)

    def test_file_holds_the_targets_alone(self, trained):
        saved = peft.load_peft_weights(trained[1], device="cpu")
        assert saved and all(
            ".language_model.layers." in name or ".understanding.projection." in name for name in saved
        )
        assert all(tensor.abs().max() > 0 for tensor in saved.values())

    def test_commands_take_it(self, trained):
        """It answers as it was trained to."""
        options = ModelOptions(str(trained[1]), "cpu", DType.float32)
        model = load_language_model(bundled_checkpoint(), options).eval()
        model.visual_tokenizer.config.selection = "threshold"
        processor = load_processor(bundled_checkpoint(), options)
        inputs = processor(images=[[ROCKET, CAMEL]], text=[processor.format_question("Who?")])
        ids = model.generate(**inputs, num_beams=1, min_new_tokens=1, max_new_tokens=8)
        assert processor.post_process_image_text_to_text(ids[:, inputs.input_ids.shape[1] :]) == ["you"]
        chat = processor.apply_chat_template(TURNS[:3], tokenize=False)
        inputs = processor(images=[[ROCKET, CAMEL]], text=[f"{chat}"])
        ids = model.generate(**inputs, num_beams=1, min_new_tokens=1, max_new_tokens=8)
        assert processor.post_process_image_text_to_text(ids[:, inputs.input_ids.shape[1] :]) == ["me, too"]

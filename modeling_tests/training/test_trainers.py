# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""In the trainers of transformers and TRL: the loss is the mean over targets, and labels fit logits."""

import pytest
import torch
from transformers import (
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

from lavit_hf import LaVITForCausalLM, LaVITForPreTraining, LaVITProcessor, bundled_checkpoint
from lavit_hf.training.meters import LanguageMeter
from lavit_hf.training.trainer import LaVITTrainer
from training_runs import EXAMPLES


PICTURES = [str(EXAMPLES / "images" / "emoji" / f"{name}.png") for name in ("penguin", "castle", "camel", "rocket")]
TEXTS = ["a bird", "a house with teeth", "two", "a way to the moon and back again"]
ROWS = [{"image": image, "text": text} for image, text in zip(PICTURES, TEXTS)]


@pytest.fixture(scope="module")
def processor() -> LaVITProcessor:
    return LaVITProcessor.from_pretrained(bundled_checkpoint())


def load(model_class: type = LaVITForCausalLM) -> LaVITForCausalLM:
    return model_class.from_pretrained(bundled_checkpoint(), dtype=torch.float32)


@pytest.fixture
def collate(processor):
    """Rows as a batch, whose labels are the processor's."""

    def collate_rows(rows: list[dict]) -> dict[str, torch.Tensor]:
        images = [[row["image"]] if row["image"] else [] for row in rows]
        texts = [f"say <image>{row['text']}" if row["image"] else row["text"] for row in rows]
        return dict(processor(images=images, text=texts, output_labels=True))

    return collate_rows


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def settings(folder, kind: type = TrainingArguments, **kwargs):
    common = {
        "output_dir": str(folder),
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "max_steps": 1,
        "learning_rate": 0.0,
        "optim": "sgd",
        "max_grad_norm": 1e9,
    }
    return kind(**common | kwargs)


def mean_over_targets(model, batch: dict[str, torch.Tensor], label_smoothing: float = 0.0) -> torch.Tensor:
    """The loss in words of its own."""
    with torch.no_grad():
        logits = model.eval()(**{name: value for name, value in batch.items() if name != "labels"}).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), label_smoothing=label_smoothing
    )


class TestLoss:
    def test_labels_of_the_processor(self, processor, collate):
        batch = collate(ROWS[:2])
        start, end = processor.image_token_ids
        for row, labels, text in zip(batch["input_ids"], batch["labels"], TEXTS):
            learned = processor.tokenizer.decode(labels[labels != -100])
            whole = processor.tokenizer.decode(row[batch["attention_mask"][TEXTS.index(text)].bool()])
            assert learned.endswith(text) and not {start, end} & set(labels.tolist())
            real = row != processor.pad_token_id
            assert (labels[real] == -100).sum() == 3  # the first id and both marks
            assert whole.endswith(text)

    @pytest.mark.parametrize("model_class", [LaVITForCausalLM, LaVITForPreTraining])
    def test_marks_and_the_first_id_are_no_targets(self, model_class, collate):
        """Also where the labels have them: the model knows better."""
        model, batch = load(model_class).eval(), collate(ROWS)
        foreign = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        expected = mean_over_targets(load(), batch)
        for labels in (batch["labels"], foreign):
            torch.testing.assert_close(model(**batch | {"labels": labels}).loss, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("model_class", [LaVITForCausalLM, LaVITForPreTraining])
    @pytest.mark.parametrize(("size", "steps"), [(4, 1), (2, 2), (1, 4), (3, 2)])
    def test_however_a_batch_is_cut(self, tmp_path, collate, model_class, size, steps):
        """Loss and gradient, with rows of unlike length and one without an image."""
        rows = [*ROWS[:3], {"image": None, "text": "some words without a picture"}]
        with_batch = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        trainer = InOrder(
            load(model_class),
            settings(tmp_path, **with_batch),
            train_dataset=rows,
            data_collator=collate,
        )
        trainer.train()
        log = next(entry for entry in trainer.state.log_history if "loss" in entry)
        reference = load(model_class).train()
        loss = reference(**collate(rows)).loss
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in reference.parameters() if p.grad is not None]).norm()
        assert log["loss"] == pytest.approx(loss.item(), abs=2e-4)
        assert log["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
        torch.testing.assert_close(loss, mean_over_targets(load(), collate(rows)), rtol=1e-5, atol=1e-5)

    def test_a_batch_without_targets(self, tmp_path, collate):
        """Such as one whose questions are longer than the limit."""

        def collate_questions(rows: list[dict]) -> dict[str, torch.Tensor]:
            batch = collate(rows)
            return batch | {"labels": torch.full_like(batch["labels"], -100)}

        trainer = LaVITTrainer(
            load(LaVITForPreTraining),
            settings(tmp_path),
            train_dataset=ROWS[:1],
            data_collator=collate_questions,
            meter=LanguageMeter(),
        )
        trainer.train()
        assert [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] == [0]


class TestEvaluation:
    def test_logits_fit_labels(self, tmp_path, collate):
        seen = {}

        def measure(prediction):
            ids, labels = prediction.predictions[:, :-1], prediction.label_ids[:, 1:]
            seen["shapes"] = prediction.predictions.shape, prediction.label_ids.shape
            return {"accuracy": float((ids == labels)[labels != -100].mean())}

        trainer = Trainer(
            load(),
            settings(tmp_path, per_device_eval_batch_size=2),
            eval_dataset=ROWS,
            data_collator=collate,
            compute_metrics=measure,
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(dim=-1),
        )
        metrics, batch = trainer.evaluate(), collate(ROWS)
        assert seen["shapes"][0] == seen["shapes"][1] == tuple(batch["labels"].shape)
        with torch.no_grad():
            ids = load().eval()(**batch).logits[:, :-1].argmax(dim=-1)
        labels = batch["labels"][:, 1:]
        assert metrics["eval_accuracy"] == pytest.approx((ids == labels)[labels != -100].float().mean().item())

    def test_label_smoothing(self, tmp_path, collate):
        args = settings(tmp_path, per_device_train_batch_size=4, label_smoothing_factor=0.1)
        trainer = InOrder(load(), args, train_dataset=ROWS, data_collator=collate)
        trainer.train()
        loss = next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
        assert loss == pytest.approx(mean_over_targets(load(), collate(ROWS), 0.1).item(), abs=1e-3)

    def test_predict_with_generate(self, tmp_path, collate, processor):
        """It goes on from the ids of a row, the labels of which it must not see."""
        args = settings(
            tmp_path,
            Seq2SeqTrainingArguments,
            predict_with_generate=True,
            generation_max_length=24,
            per_device_eval_batch_size=4,
        )
        trainer = Seq2SeqTrainer(load(), args, data_collator=collate, processing_class=processor)
        prediction, batch = trainer.predict(ROWS), collate(ROWS)
        labels = batch.pop("labels")
        expected = load().eval().generate(**batch, max_length=24)
        assert torch.equal(torch.from_numpy(prediction.predictions)[:, : expected.shape[1]], expected)
        assert expected.shape[1] > labels.shape[1]
        loss = mean_over_targets(load(), batch | {"labels": labels})
        assert prediction.metrics["test_loss"] == pytest.approx(loss.item(), abs=1e-4)


def test_labels_of_another_length_are_refused(collate):
    batch = collate(ROWS)
    length = batch["input_ids"].shape[1]
    with pytest.raises(ValueError, match=rf"labels have shape \(4, 3\), but the ids \(4, {length}\)"):
        load()(**batch | {"labels": batch["labels"][:, :3]})


class TestTrl:
    """Its loss is calculated from hidden states and labels, which must be of one length."""

    @pytest.fixture
    def trl(self):
        pytest.importorskip("datasets")
        return pytest.importorskip("trl")

    @pytest.mark.slow
    @pytest.mark.parametrize("lora", [False, True])
    def test_sft_trainer(self, trl, tmp_path, processor, lora):
        import datasets
        from PIL import Image

        rows = [
            {
                "images": [Image.open(row["image"]).convert("RGB")],
                "prompt": "What is it?",
                "completion": f" {row['text']}",
            }
            for row in ROWS
        ]
        args = settings(
            tmp_path,
            trl.SFTConfig,
            bf16=False,
            max_length=None,
            gradient_checkpointing=False,
            learning_rate=1e-2,
            max_steps=8,
            optim="adamw_torch",
            per_device_train_batch_size=4,
        )
        kwargs = {}
        if lora:
            kwargs["peft_config"] = pytest.importorskip("peft").LoraConfig(target_modules=["q_proj", "v_proj"])
        trainer = trl.SFTTrainer(
            load(), args, train_dataset=datasets.Dataset.from_list(rows), processing_class=processor, **kwargs
        )
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values", "labels")}
        assert losses[0] == pytest.approx(mean_over_targets(load(), inputs).item(), rel=1e-3)
        assert losses[-1] < 0.9 * losses[0]

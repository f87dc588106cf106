# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Trains tiny models by `Trainer` in as many processes as torchrun starts, and writes the loss curve and the weights.

    torchrun --nproc-per-node 2 train_together.py output ddp causal causal-lora ...
"""

import os
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments


sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from lavit_hf import LaVITForCausalLM, LaVITForPreTraining, LaVITVisualTokenizerForPreTraining  # noqa: E402
from tiny_training_models import END, IMG, build  # noqa: E402


CLASSES = {
    "causal": LaVITForCausalLM,
    "pretraining": LaVITForPreTraining,
    "features": LaVITForPreTraining,
    "tokenizer": LaVITVisualTokenizerForPreTraining,
}
STEPS, GLOBAL_BATCH = 6, 4
# Images in the rows of a global batch, whose second half is another process's: all, none, or ragged.
IMAGES = ["1100", "1011", "0000", "1111", "0011", "2010"]


def read_rows(kind: str) -> list[dict]:
    """Rows of unlike length with no, one or two images each."""
    generator = torch.Generator().manual_seed(3)
    rows = []
    for number, count in enumerate(map(int, "".join(IMAGES))):
        text = torch.randint(3, IMG, (3 + number % 4,), generator=generator).tolist()
        picture = torch.randn(max(count, 1), 3, 32, 32, generator=generator)
        rows.append({"ids": [7, *[IMG, END] * count, *text], "pixel_values": picture, "count": count, "kind": kind})
    return rows


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    kind = rows[0]["kind"]
    if kind == "tokenizer":
        return {"pixel_values": torch.cat([row["pixel_values"][:1] for row in rows])}
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.tensor([[0] * (longest - len(row["ids"])) + row["ids"] for row in rows])
    first = (ids > 0) & ((ids > 0).cumsum(dim=1) == 1)
    batch = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    batch["labels"] = ids.masked_fill((ids == 0) | first | (ids == IMG) | (ids == END), -100)
    if pictures := [row["pixel_values"] for row in rows if row["count"]]:
        pictures = torch.cat(pictures)
        features = pictures.flatten(2).unflatten(2, (16, -1)).transpose(1, 2).flatten(2)[..., :32]
        batch |= {"image_features": features} if kind == "features" else {"pixel_values": pictures}
    return batch


def prepare(name: str):
    """The model of a scenario, on every process with the same weights."""
    kind, *options = name.split("-")
    model = build(CLASSES[kind], **({"codebook_restart_threshold": 0.0} if kind == "tokenizer" else {}))
    if kind == "tokenizer":
        model.train()(collate(read_rows(kind)).pop("pixel_values"))  # k-means, which draws
    if "lora" in options:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    return model


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)


def settings(output: Path, way: str, name: str) -> TrainingArguments:
    world = int(os.environ.get("WORLD_SIZE", 1))
    kwargs = {"fsdp": True, "fsdp_config": {"fsdp_version": 2}} if way == "fsdp" and world > 1 else {}
    if "checkpointing" in name:
        kwargs |= {"gradient_checkpointing": True}
    return TrainingArguments(
        output_dir=str(output),
        use_cpu=True,
        per_device_train_batch_size=GLOBAL_BATCH // world,
        max_steps=STEPS,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        optim="sgd",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_timeout=100,
        **kwargs,
    )


def gather(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The whole weights, on every process."""
    state = trainer.accelerator.unwrap_model(trainer.model).state_dict()
    whole = {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in state.items()}
    return {name.replace("_checkpoint_wrapped_module.", ""): value.clone() for name, value in whole.items()}


def main(output: str, way: str, *names: str) -> None:
    rank = int(os.environ.get("RANK", 0))
    torch.set_num_threads(1)
    for name in names:
        args = settings(Path(output), way, name)
        trainer = InOrder(prepare(name), args, train_dataset=read_rows(name.split("-")[0]), data_collator=collate)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        torch.save({"losses": losses, "weights": gather(trainer)}, Path(output) / f"{name}-{rank}.pt")
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

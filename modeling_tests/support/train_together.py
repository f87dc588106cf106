# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Trains tiny models in as many processes as torchrun starts, and writes the loss curve and the weights.

By `Trainer` where the way is `ddp`. By hand where it is `fsdp`, since accelerate shares weights out on accelerators
only; cut as it cuts them, where modules must not be split, with embeddings and head for themselves.

    torchrun --nproc-per-node 2 train_together.py output ddp causal causal-lora ...
"""

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
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


@torch.no_grad()
def start_codebook(model: LaVITVisualTokenizerForPreTraining) -> None:
    """Gives the codes their first values in place of k-means, which draws."""
    state = model.codebook_trainer.quantizer._codebook
    codes = torch.randn(state.embed.shape, generator=torch.Generator().manual_seed(5))
    codes = torch.nn.functional.normalize(codes, dim=-1)
    state.embed.copy_(codes)
    state.embed_avg.copy_(codes)
    state.cluster_size.fill_(1.0)
    state.initted.fill_(True)


def prepare(name: str):
    """The model of a scenario, on every process with the same weights."""
    kind, *options = name.split("-")
    model = build(CLASSES[kind], **({"codebook_restart_threshold": 0.0} if kind == "tokenizer" else {}))
    if kind == "tokenizer":
        start_codebook(model)
    if "frozen" in options:  # the understanding branch learns alone
        model.language_model.requires_grad_(False)
        model.lm_head.requires_grad_(False)
    if "lora" in options:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    return model


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)


def settings(output: Path, name: str) -> TrainingArguments:
    world = int(os.environ.get("WORLD_SIZE", 1))
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
        gradient_checkpointing="checkpointing" in name,
    )


def gather(model) -> dict[str, torch.Tensor]:
    """The whole weights, on every process."""
    state = model.state_dict()
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()
        for name, value in state.items()
    }


def train_by_trainer(name: str, output: str) -> tuple[list[float], torch.nn.Module]:
    rows = read_rows(name.split("-")[0])
    trainer = InOrder(prepare(name), settings(Path(output), name), train_dataset=rows, data_collator=collate)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, trainer.accelerator.unwrap_model(trainer.model)


def shard(model: torch.nn.Module) -> torch.nn.Module:
    """FSDP2, cut as accelerate cuts it."""
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    for module in reversed(list(model.modules())):
        if type(module).__name__ in base._no_split_modules:
            fully_shard(module, mesh=mesh)
    for part in (base.get_input_embeddings(), base.get_output_embeddings()):
        if part is not None:
            fully_shard(part, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train_by_hand(name: str) -> tuple[list[float], torch.nn.Module]:
    rank, world, losses = distributed.get_rank(), distributed.get_world_size(), []
    model = prepare(name)
    if "checkpointing" in name:
        model.activation_checkpointing_enable()
    model, rows = shard(model).train(), read_rows(name.split("-")[0])
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1e-2)
    for step in range(STEPS):
        share = GLOBAL_BATCH // world
        first = step * GLOBAL_BATCH + rank * share
        batch = collate(rows[first : first + share])
        if "labels" in batch:
            count = (batch["labels"][:, 1:] != -100).sum()
            distributed.all_reduce(count)
            batch["num_items_in_batch"] = count / world  # gradients are averaged
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.detach() / world
        distributed.all_reduce(loss)
        losses.append(loss.item())
    return losses, model


def main(output: str, way: str, *names: str) -> None:
    rank = int(os.environ.get("RANK", 0))
    torch.set_num_threads(1)
    if way == "fsdp":
        distributed.init_process_group("gloo", timeout=timedelta(seconds=100))
    for name in names:
        start = gather(prepare(name))
        losses, model = train_by_hand(name) if way == "fsdp" else train_by_trainer(name, output)
        is_sharded = any(hasattr(parameter, "device_mesh") for parameter in model.parameters())
        result = {"losses": losses, "weights": gather(model), "start": start, "is_sharded": is_sharded}
        torch.save(result, Path(output) / f"{name}-{rank}.pt")
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

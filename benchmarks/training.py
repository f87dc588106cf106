# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures the overhead of training: compares the speed of `LaVITTrainer` in both stages, with its data loader, checks,
clipping and metrics, with that of the bare computation.

In stage 1, the bare computation is the forward pass of the frozen encoder, and the forward pass, backward pass and
optimizer step of the trained parts on precomputed features. In stage 2, it is the training of a bare causal language
model of the same shape on the same number of tokens, without images and padding, with the same number of targets.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from timing import print_machine, print_table
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Blip2VisionConfig,
    LlamaConfig,
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)

from lavit_hf import (
    LaVITConfig,
    LaVITDetokenizerConfig,
    LaVITForPreTraining,
    LaVITVisualTokenizerConfig,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.lavit.modeling_lavit import IGNORE_INDEX
from lavit_hf.training.meters import LanguageMeter, LossMeter, TokenizerMeter
from lavit_hf.training.trainer import LaVITTrainer


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARM_UP = 3  # steps
HEAD_WIDTH, TEXT_HEAD_WIDTH = 88, 128  # of ViT-g and LLaMA
CODEBOOK_SIZE, TEXT_VOCAB_SIZE = 2048, 8192
TEXT_LENGTH = 40  # tokens per text


class StepClock(TrainerCallback):
    """Records when each step of a run ends."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(now())


def now() -> float:
    """The current time, after all computations on the device have finished."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_a_step(ends: list[float]) -> float:
    """Median time from the end of one step to the end of the next, after warm-up."""
    ends = ends[WARM_UP - 1 :]
    return statistics.median(after - before for before, after in itertools.pairwise(ends))


def trainer_run(model: PreTrainedModel, batch: dict, meter: LossMeter, steps: int) -> Callable[[], float]:
    """A function that trains with `LaVITTrainer` on a prepared batch, and returns the time per step."""
    clock, steps = StepClock(), steps + WARM_UP
    settings = TrainingArguments(
        tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=1,  # each item is a whole batch
        bf16=True,
        use_cpu=DEVICE.type == "cpu",
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = LaVITTrainer(
        model,
        settings,
        train_dataset=[batch] * steps,
        data_collator=lambda batches: batches[0],
        meter=meter,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)

    def run() -> float:
        trainer.train()
        return seconds_a_step(clock.ends)

    return run


def bare_run(loss: Callable[[], torch.Tensor], model: nn.Module | None, steps: int) -> Callable[[], float]:
    """A function that times a step of the bare computation: the loss, and for a model also backward pass and AdamW."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad] if model else []
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True) if parameters else None

    def step() -> float:
        with torch.autocast(DEVICE.type, torch.bfloat16):
            value = loss()
        if optimizer is not None:
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
        return now()

    return lambda: seconds_a_step([step() for _ in range(steps + WARM_UP)])


def measure(runs: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Time per step of each run in seconds: the median over rounds, in each of which all runs take turns."""
    rounds = [{name: run() for name, run in runs.items()} for _ in range(repeats)]
    return {name: statistics.median(seconds[name] for seconds in rounds) for name in runs}


def build_tokenizer(heads: int, layers: int, trained_layers: int) -> LaVITVisualTokenizerForPreTraining:
    """A visual tokenizer with the proportions of ViT-g/14 at another size."""
    width = heads * HEAD_WIDTH
    sizes = {"num_attention_heads": heads, "intermediate_size": 4 * width}
    trained_sizes = {**sizes, "num_hidden_layers": trained_layers}
    config = LaVITVisualTokenizerConfig(
        encoder_config=Blip2VisionConfig(hidden_size=width, num_hidden_layers=layers, initializer_range=0.02, **sizes),
        merger_softmax="masked",
        selection="ratio",
        codebook_size=CODEBOOK_SIZE,
        detokenizer_config=LaVITDetokenizerConfig(
            feature_size=width, hidden_size=width, cross_attention_dims=(), **trained_sizes
        ),
        **trained_sizes,
    )
    return LaVITVisualTokenizerForPreTraining(config).to(DEVICE)


def time_stage_1(model: LaVITVisualTokenizerForPreTraining, batch_size: int, steps: int, repeats: int) -> list[str]:
    """Images per second of the trainer and of the bare computation, and their ratio."""
    size = model.config.image_size
    pixel_values = torch.randn(batch_size, 3, size, size)
    on_device = pixel_values.to(DEVICE)

    @torch.no_grad()
    def encode() -> torch.Tensor:
        return model.visual_tokenizer.encode(on_device).last_hidden_state

    features = encode()
    seconds = measure(
        {
            "trainer": trainer_run(model, {"pixel_values": pixel_values}, TokenizerMeter(CODEBOOK_SIZE), steps),
            "encoder": bare_run(encode, None, steps),
            "trained parts": bare_run(lambda: model.train()(features=features).loss, model, steps),
        },
        repeats,
    )
    return compare(batch_size, seconds["trainer"], seconds["encoder"] + seconds["trained parts"])


def build_language_model(heads: int, layers: int) -> LaVITForPreTraining:
    """A model with LLaMA's proportions at another size, and a minimal visual tokenizer, because codes are given."""
    width = heads * TEXT_HEAD_WIDTH
    text_config = LlamaConfig(
        vocab_size=TEXT_VOCAB_SIZE + CODEBOOK_SIZE + 2,
        hidden_size=width,
        intermediate_size=round(width * 8 / 3),
        num_hidden_layers=layers,
        num_attention_heads=heads,
    )
    visual_config = build_tokenizer(heads=1, layers=1, trained_layers=1).config
    model = LaVITForPreTraining(LaVITConfig(visual_tokenizer_config=visual_config, text_config=text_config))
    model.share_merger()
    return model.to(DEVICE)


def language_batch(model: LaVITForPreTraining, num_pairs: int) -> dict[str, torch.Tensor]:
    """Pairs of images and texts in both layouts, with a third of the patches kept."""
    config, visual = model.config, model.config.visual_tokenizer_config
    kept = visual.num_patches // 3
    text = torch.randint(3, config.text_vocab_size, (num_pairs, 2, TEXT_LENGTH))
    codes = torch.randint(config.first_code_token_id, config.text_config.vocab_size, (num_pairs, kept))
    start, end = (
        torch.full((num_pairs, 1), mark) for mark in (config.image_start_token_id, config.image_end_token_id)
    )
    written = torch.cat([text[:, 0], start, codes, end], dim=1)
    padding = written.new_zeros(num_pairs, written.shape[1] - TEXT_LENGTH - 2)
    input_ids = torch.cat([written, torch.cat([padding, start, end, text[:, 1]], dim=1)])
    labels = input_ids.clone()
    labels[:num_pairs, : TEXT_LENGTH + 1] = IGNORE_INDEX
    labels[num_pairs:, :-TEXT_LENGTH] = IGNORE_INDEX
    attention_mask = torch.ones_like(input_ids)
    attention_mask[num_pairs:, : padding.shape[1]] = 0
    keep_mask = torch.zeros(num_pairs, visual.num_patches, dtype=torch.bool)
    keep_mask[:, : 3 * kept : 3] = True
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels,
        "image_rows": torch.randn(num_pairs * kept, visual.hidden_size),
        "keep_mask": keep_mask,
    }


def time_stage_2(model: LaVITForPreTraining, num_pairs: int, steps: int, repeats: int) -> list[str]:
    """Tokens per second of the trainer and of the bare computation, and their ratio."""
    batch = language_batch(model, num_pairs)
    num_slots = len(batch["keep_mask"])
    num_tokens = int(batch["attention_mask"].sum() + batch["keep_mask"].sum())
    model.pack_length = 2 * (num_tokens // (2 * num_slots))  # two pairs fill a sequence
    bare = AutoModelForCausalLM.from_config(model.config.text_config).to(DEVICE)
    ids = torch.randint(TEXT_VOCAB_SIZE, (num_slots, num_tokens // num_slots), device=DEVICE)
    labels = ids.where(torch.rand(ids.shape, device=DEVICE) < (batch["labels"] >= 0).sum() / num_tokens, IGNORE_INDEX)
    seconds = measure(
        {
            "trainer": trainer_run(model, batch, LanguageMeter(), steps),
            "bare": bare_run(lambda: bare(input_ids=ids, labels=labels).loss, bare, steps),
        },
        repeats,
    )
    return compare(num_tokens, seconds["trainer"], seconds["bare"])


def compare(count: int, trainer: float, bound: float) -> list[str]:
    """Items per second of the trainer and of the bare computation, and their ratio."""
    return [f"{count / trainer:.0f}", f"{count / bound:.0f}", f"{bound / trainer:.0%}"]


def main(
    heads: Annotated[int, typer.Option(help="Width of the encoder in heads of 88; 16 at full size.")] = 4,
    layers: Annotated[int, typer.Option(help="Number of encoder blocks; 40 at full size.")] = 10,
    trained_layers: Annotated[
        int, typer.Option(help="Number of blocks of the merger and detokenizer; 12 at full size.")
    ] = 3,
    batch_size: Annotated[int, typer.Option(help="Number of images per step of stage 1.")] = 16,
    text_heads: Annotated[int, typer.Option(help="Width of LLaMA in heads of 128; 32 at full size.")] = 4,
    text_layers: Annotated[int, typer.Option(help="Number of LLaMA blocks; 32 at full size.")] = 4,
    num_pairs: Annotated[int, typer.Option(help="Number of pairs of each layout per step of stage 2.")] = 16,
    steps: Annotated[int, typer.Option(help="Number of timed steps per round.")] = 5,
    repeats: Annotated[int, typer.Option(help="Number of rounds; the median is shown.")] = 3,
) -> None:
    """Time both stages of training."""
    print_machine()
    torch.manual_seed(0)
    tokenizer = build_tokenizer(heads, layers, trained_layers)
    rows = [("1, images/s", *time_stage_1(tokenizer, batch_size, steps, repeats))]
    del tokenizer
    language_model = build_language_model(text_heads, text_layers)
    rows.append(("2, tokens/s", *time_stage_2(language_model, num_pairs, steps, repeats)))
    print_table(("stage", "LaVITTrainer", "bare computation", "relative speed"), rows)


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Fine-tunes a LaVIT model with LoRA on captions, questions or conversations about your own images.

    accelerate launch examples/finetune.py examples/runs/finetune_captions.yaml --dataset my-images

The folder contains images and a `metadata.jsonl` with one line per image: `{"file_name": "cat.jpg", "text": "a cat"}`
for `task: captions`, `{"file_name": "cat.jpg", "question": "Who is it?", "answer": "a cat"}` for `task: questions`.

`task: conversations` reads data in the LLaVA format, from a JSON file next to the images or a folder with a
`train.json`. A row can have any number of images, including none. Only the answers are trained on.

    [{"image": "cat.jpg", "conversations": [
        {"from": "human", "value": "<image>Who is it?"}, {"from": "gpt", "value": "a cat"}]}]

The base model can be loaded in 4 or 8 bits (`quantize: 4bit`). The adapter is saved to `<output_dir>/adapter`:

    base = LaVITForCausalLM.from_pretrained("lavit-7b")
    model = PeftModel.from_pretrained(base, "output_dir/adapter")

With `save: merged`, the merged model is also saved to `<output_dir>/merged`, in the dtype of the base model and with
its pixel decoder, if it has one:

    model = LaVITForCausalLM.from_pretrained("output_dir/merged")

Both folders contain the processor and can be passed to the commands: `lavit caption --model output_dir/adapter`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import BitsAndBytesConfig, TrainingArguments, set_seed

from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITForPreTraining, LaVITProcessor
from lavit_hf.hub.replacing import save_with_pixel_decoder
from lavit_hf.training.command_line import run_script
from lavit_hf.training.conversation_collator import ConversationCollator
from lavit_hf.training.conversations import Conversations, load_conversations
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.language_collator import LanguageCollator
from lavit_hf.training.meters import LanguageMeter
from lavit_hf.training.picture_texts import TASKS, load_picture_texts, make_sample
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.settings import find_checkpoint, load_settings
from lavit_hf.training.trainer import LaVITTrainer


logger = logging.getLogger(__name__)

QUANTIZATIONS = {
    None: None,
    "8bit": {"load_in_8bit": True},
    "4bit": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    },
}
SAVED_AS = ("adapter", "merged")
CONVERSATIONS = "conversations"


@dataclass
class FinetuneSettings:
    """Settings of fine-tuning."""

    model: str = field(metadata={"help": "Path or Hub id of the LaVIT model to start from."})
    dataset: str = field(metadata={"help": "Folder of images with a metadata.jsonl, a JSON file, or a Hub id."})
    task: str = field(default="captions", metadata={"help": "captions, questions or conversations."})
    train_split: str = "train"
    validation_split: str | None = None
    image_column: str = "image"
    max_text_length: int = field(
        default=128, metadata={"help": "Maximum length of a text in tokens; longer ones are truncated."}
    )
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    train_merger: bool = field(default=False, metadata={"help": "Whether to also train the understanding branch."})
    quantize: str | None = field(default=None, metadata={"help": "Quantization of the base model: 4bit or 8bit."})
    save: str = field(default="adapter", metadata={"help": "adapter, or merged to also save the merged model."})

    def __post_init__(self):
        if self.task not in (*TASKS, CONVERSATIONS):
            raise TrainingError(f"task must be one of {', '.join((*TASKS, CONVERSATIONS))}, got {self.task!r}.")
        if self.quantize not in QUANTIZATIONS:
            raise TrainingError(f"quantize must be 4bit, 8bit or unset, got {self.quantize!r}.")
        if self.save not in SAVED_AS:
            raise TrainingError(f"save must be one of {', '.join(SAVED_AS)}, got {self.save!r}.")


def load_base(settings: FinetuneSettings, dtype: torch.dtype) -> LaVITForPreTraining:
    """The base model, with its language model quantized if set."""
    if settings.quantize is None:
        return LaVITForPreTraining.from_pretrained(settings.model, dtype=dtype)
    return LaVITForPreTraining.from_pretrained(
        settings.model,
        dtype=dtype,
        quantization_config=BitsAndBytesConfig(**QUANTIZATIONS[settings.quantize]),
        device_map={"": PartialState().device},
    )


def load_data(settings: FinetuneSettings, split: str | None) -> Dataset | Conversations | None:
    """A split of the dataset; `None` if no split is given."""
    if split is None:
        return None
    if settings.task == CONVERSATIONS:
        return load_conversations(settings.dataset, split, settings.image_column)
    return load_picture_texts(settings.dataset, split, settings.task, settings.image_column)


def make_collator(
    settings: FinetuneSettings, processor: LaVITProcessor, config: LaVITConfig, data: Sequence
) -> tuple[Callable, LanguageCollator | ConversationCollator]:
    """A function that collates rows, and the collator that counts truncated texts."""
    if settings.task == CONVERSATIONS:
        most_images = max(split.most_images for split in data if split is not None)
        collator = ConversationCollator(processor, config, settings.max_text_length, most_images)
        return collator, collator
    collator = LanguageCollator(processor, config, settings.max_text_length)

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        return collator([make_sample(row, settings.task, processor, settings.image_column) for row in rows])

    return collate, collator


def add_adapter(model: LaVITForPreTraining, settings: FinetuneSettings) -> PeftModel:
    """Adds LoRA to the language model's linear layers except its head; all else is frozen, unless set otherwise."""
    names = {module: name for name, module in model.named_modules()}
    layers = [names[module] for module in model.language_model.modules() if isinstance(module, torch.nn.Linear)]
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=layers,
        modules_to_save=reading_modules(model) if settings.train_merger else None,
    )
    adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # small updates would be lost in 16 bits
    return adapted


def reading_modules(model: LaVITForPreTraining) -> list[str]:
    """The trainable modules of the understanding branch; the visual tokenizer stays frozen."""
    modules = model.understanding.named_children()
    return [f"understanding.{name}" for name, _ in modules if name in ("merger", "projection")]


def save(trainer: LaVITTrainer, settings: FinetuneSettings) -> None:
    """Saves the adapter and, if set, the base model with the adapter merged into it."""
    output = Path(trainer.args.output_dir)
    trainer.save_model(str(output / "adapter"))
    if settings.save == "merged" and trainer.is_world_process_zero():
        # The adapter is merged into the unquantized base model.
        base = LaVITForCausalLM.from_pretrained(settings.model)
        merged = PeftModel.from_pretrained(base, output / "adapter").merge_and_unload()
        save_with_pixel_decoder(merged, trainer.processing_class, output / "merged", settings.model)


def main() -> None:
    """Train, resuming from the last checkpoint in `output_dir` if there is one."""
    settings, training_args = load_settings(FinetuneSettings, TrainingArguments)
    checkpoint = find_checkpoint(training_args, [settings])
    training_args.remove_unused_columns = False
    training_args.label_names = ["labels"]
    set_seed(training_args.seed)
    processor = LaVITProcessor.from_pretrained(settings.model)
    data = [load_data(settings, split) for split in (settings.train_split, settings.validation_split)]
    # A frozen base model can be loaded in the dtype that autocast computes in.
    base = load_base(settings, torch.bfloat16 if training_args.bf16 else torch.float32)
    if Path(settings.model).is_dir():
        base.name_or_path = str(Path(settings.model).resolve())  # saved in the adapter, so it must be absolute
    collate, collator = make_collator(settings, processor, base.config, data)
    trainer = LaVITTrainer(
        add_adapter(base, settings),
        training_args,
        train_dataset=data[0],
        eval_dataset=data[1],
        data_collator=collate,
        processing_class=processor,
        callbacks=[SeedPerProcess()],
        meter=LanguageMeter(),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    if collator.num_cut:
        logger.warning("%d texts were truncated to %d tokens", collator.num_cut, settings.max_text_length)
    save(trainer, settings)


if __name__ == "__main__":
    run_script(main)

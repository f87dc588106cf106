# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Stage 2: the language model learns to read and write images (paper, section 3.2), from the output of pretokenize.py.

    accelerate launch examples/pretrain.py examples/runs/emoji_pretrain.yaml
"""

import logging
from dataclasses import dataclass, field
from functools import partial

import torch
from datasets import IterableDataset
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)

from lavit_hf import (
    LaVITForPreTraining,
    LaVITImageProcessor,
    LaVITProcessor,
    LaVITVisualTokenizer,
    build_tokenizer,
)
from lavit_hf.lavit.generation_lavit import DEFAULT_IMAGE_GENERATION
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.language_collator import LanguageCollator
from lavit_hf.training.language_data import (
    EpochCallback,
    LanguageDataset,
    SampleMaker,
    leave_out_empty,
    prepare_pairs,
    reading_column,
    stream_samples,
)
from lavit_hf.training.meters import LanguageMeter
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.settings import find_checkpoint, load_function, load_settings
from lavit_hf.training.trainer import LaVITTrainer


logger = logging.getLogger(__name__)


@dataclass
class ModelSettings:
    """The model: a LaVIT, or a visual tokenizer with a pretrained or new language model."""

    model: str | None = field(default=None, metadata={"help": "Path or Hub id of a LaVIT model to continue from."})
    visual_tokenizer: str | None = field(
        default=None, metadata={"help": "Path or Hub id of a trained visual tokenizer."}
    )
    text_model: str | None = field(default=None, metadata={"help": "Path or Hub id of the language model."})
    text_config: dict | None = field(default=None, metadata={"help": "Configuration of a new language model."})
    text_tokenizer: str | None = field(
        default=None, metadata={"help": "Tokenizer of the language model; that of text_model by default."}
    )
    codes_from_codebook: bool = field(
        default=False,
        metadata={"help": "Whether to initialize the embeddings of codes with a projection of the codebook."},
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention implementation, such as eager or flash_attention_2."}
    )
    model_class: str | None = field(
        default=None, metadata={"help": "Experimental: `file.py:class` to use instead of LaVITForPreTraining."}
    )
    lora_rank: int | None = field(
        default=None, metadata={"help": "Rank of LoRA adapters to train; if unset, everything is trained."}
    )
    lora_alpha: int = 32
    generation: dict = field(
        default_factory=dict, metadata={"help": "Default settings of generate for text, saved with the model."}
    )
    image_generation: dict = field(
        default_factory=dict, metadata={"help": "Default settings of generate for images, saved with the model."}
    )


@dataclass
class DataSettings:
    """The training data."""

    dataset: str = field(metadata={"help": "Output of pretokenize.py."})
    train_split: str = "train"
    validation_split: str | None = None
    streaming: bool = False
    layouts: list[str] = field(
        default_factory=lambda: ["image_text", "text_image"],
        metadata={"help": "Layouts that pairs alternate between."},
    )
    condition_dropout: float = field(default=0.1, metadata={"help": "Share of images to write without their text."})
    read_codes: bool = field(default=False, metadata={"help": "Experimental: read images as codes."})
    max_questions: int = field(
        default=1, metadata={"help": "Maximum number of questions about an image in one sample, as turns of a chat."}
    )
    example_share: float = field(
        default=0.0, metadata={"help": "Share of images to write with another image before the text, as an example."}
    )
    example_column: str | None = field(
        default=None, metadata={"help": "Column that must have the same value for an image and its example."}
    )
    text_dataset: str | None = field(default=None, metadata={"help": "Text-only dataset to mix in."})
    text_split: str = "train"
    text_share: float = field(default=0.0, metadata={"help": "Share of text-only samples."})
    max_text_length: int = field(
        default=128, metadata={"help": "Maximum length of a text in tokens; longer ones are truncated."}
    )
    pack_length: int | None = field(
        default=None, metadata={"help": "Pack samples into sequences of this length in tokens."}
    )


def load_model(settings: ModelSettings) -> tuple[LaVITForPreTraining, LaVITProcessor]:
    """The model to train, in fp32, and its processor."""
    model_class = load_function(settings.model_class) if settings.model_class else LaVITForPreTraining
    if settings.model:
        model = model_class.from_pretrained(settings.model, dtype=torch.float32)
        return model, LaVITProcessor.from_pretrained(settings.model)
    if not settings.visual_tokenizer or (settings.text_model is None) == (settings.text_config is None):
        raise TrainingError("set either model, or visual_tokenizer and either text_model or text_config.")
    if not (settings.text_tokenizer or settings.text_model):
        raise TrainingError("a new language model needs a tokenizer: set text_tokenizer.")
    text_tokenizer = AutoTokenizer.from_pretrained(settings.text_tokenizer or settings.text_model)
    model = model_class.from_visual_tokenizer(
        LaVITVisualTokenizer.from_pretrained(settings.visual_tokenizer, dtype=torch.float32),
        load_text_model(settings, text_tokenizer),
        codes_from_codebook=settings.codes_from_codebook,
    )
    codebook_size = model.config.visual_tokenizer_config.codebook_size
    tokenizer = build_tokenizer(text_tokenizer, codebook_size, model.config.text_vocab_size)
    return model, LaVITProcessor(LaVITImageProcessor.from_pretrained(settings.visual_tokenizer), tokenizer)


def load_text_model(settings: ModelSettings, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | PreTrainedConfig:
    """The pretrained text-only language model, or the configuration of a new one."""
    if settings.text_model:
        return AutoModelForCausalLM.from_pretrained(settings.text_model, dtype=torch.float32)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return AutoConfig.for_model(**{"vocab_size": len(tokenizer), **special, **settings.text_config})


def set_generation(model: LaVITForPreTraining, settings: ModelSettings) -> None:
    """Sets the defaults in the model's generation config."""
    config = model.generation_config
    config.update(**settings.generation)
    config.image_generation = getattr(config, "image_generation", DEFAULT_IMAGE_GENERATION) | settings.image_generation


def add_adapters(model: LaVITForPreTraining, rank: int, alpha: int) -> PreTrainedModel:
    """Adds LoRA to the language model's linear layers; embeddings of image ids and the understanding branch train."""
    from peft import LoraConfig, get_peft_model

    names = {module: name for name, module in model.named_modules()}
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    layers = [module for module in model.language_model.modules() if isinstance(module, nn.Linear)]
    image_ids = list(range(model.config.image_start_token_id, model.config.text_config.vocab_size))
    own_rows = (embeddings,) if head.weight is embeddings.weight else (embeddings, head)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=[names[layer] for layer in layers],
        trainable_token_indices={names[module]: image_ids for module in own_rows},
        modules_to_save=["understanding"],
    )
    return get_peft_model(model, config)


def load_data(
    settings: DataSettings, maker: SampleMaker
) -> tuple[LanguageDataset | IterableDataset, LanguageDataset | None, str | None]:
    """Training samples, validation samples, and the column that images are read from."""
    pairs = prepare_pairs(load_split(settings.dataset, settings.train_split, settings.streaming), settings.layouts)
    texts = None
    if settings.text_dataset:
        texts = leave_out_empty(load_split(settings.text_dataset, settings.text_split, settings.streaming))
    if settings.streaming and settings.example_share:
        raise TrainingError("examples need random access to the dataset. Set either streaming or example_share.")
    mix = stream_samples if settings.streaming else partial(LanguageDataset, example_column=settings.example_column)
    validation_data = None
    if settings.validation_split:
        validation_pairs = prepare_pairs(load_split(settings.dataset, settings.validation_split), settings.layouts)
        validation_maker = SampleMaker(
            settings.layouts, maker.question_template, seed=maker.seed, read_codes=maker.read_codes
        )
        validation_data = LanguageDataset(validation_pairs, validation_maker)
    return mix(pairs, maker, texts, settings.text_share), validation_data, reading_column(pairs)


def save(trainer: LaVITTrainer, settings: ModelSettings) -> None:
    """Saves the model as a LaVIT repo, with adapters merged into the language model."""
    if settings.lora_rank:
        trainer.model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    trainer.save_model()


def main() -> None:
    """Train, resuming from the last checkpoint in `output_dir` if there is one."""
    settings, data_settings, training_args = load_settings(ModelSettings, DataSettings, TrainingArguments)
    checkpoint = find_checkpoint(training_args, [settings, data_settings])
    training_args.remove_unused_columns = False
    training_args.accelerator_config.dispatch_batches = False  # batches differ in length
    training_args.ddp_find_unused_parameters = False  # all parameters have a gradient in every batch
    set_seed(training_args.seed)
    model, processor = load_model(settings)
    model.pack_length = data_settings.pack_length
    if settings.attn_implementation:
        model.set_attn_implementation(settings.attn_implementation)
    set_generation(model, settings)
    maker = SampleMaker(
        data_settings.layouts,
        processor.question_template,
        data_settings.condition_dropout,
        data_settings.example_share,
        training_args.seed,
        data_settings.read_codes,
        data_settings.max_questions,
    )
    train_data, validation_data, reading = load_data(data_settings, maker)
    if reading == "rows":
        model.share_merger()
    collate = LanguageCollator(
        processor, model.config, data_settings.max_text_length, has_examples=data_settings.example_share > 0
    )
    trainer = LaVITTrainer(
        add_adapters(model, settings.lora_rank, settings.lora_alpha) if settings.lora_rank else model,
        training_args,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=collate,
        processing_class=processor,
        callbacks=[SeedPerProcess(), EpochCallback(maker)],
        meter=LanguageMeter(),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    if collate.num_cut:
        logger.warning("%d texts were truncated to %d tokens", collate.num_cut, data_settings.max_text_length)
    save(trainer, settings)


if __name__ == "__main__":
    run_script(main)

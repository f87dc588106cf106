# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Stage 1: trains the visual tokenizer to reconstruct the frozen encoder's features (paper, section 3.1).

    accelerate launch examples/train_visual_tokenizer.py examples/runs/emoji_visual_tokenizer.yaml

With `freeze_selection`, this is the second phase of stage 1, after `train_token_selection.py`. Another run with
`freeze_selection` can continue it, with the output of the first run as `model`.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from accelerate.utils import send_to_device
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainingArguments, set_seed

from lavit_hf import (
    LaVITImageProcessor,
    LaVITTokenSelectionForPreTraining,
    LaVITVisualTokenizerConfig,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.training.codebook_start import CodebookStart
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split, skip_broken_images
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.feature_rows import from_bytes
from lavit_hf.training.meters import TokenizerMeter
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.settings import find_checkpoint, load_function, load_settings
from lavit_hf.training.trainer import LaVITTrainer


@dataclass
class TokenizerSettings:
    """Settings of the model and the data."""

    model: str = field(metadata={"help": "Path or Hub id of the tokenizer to start from."})
    dataset: str = field(metadata={"help": "Images, or precomputed features."})
    train_split: str = "train"
    validation_split: str | None = None
    streaming: bool = False
    image_column: str = "image"
    features_column: str = field(
        default="features",
        metadata={"help": "Column of precomputed features, used instead of the images if it exists."},
    )
    selection: str | None = field(
        default=None, metadata={"help": "Selection rule during training; that of the model by default."}
    )
    final_selection: str | None = field(default=None, metadata={"help": "Selection rule at the end of training."})
    final_selection_share: float = field(default=0.25, metadata={"help": "Share of the steps with final_selection."})
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "Attention implementation; chosen by transformers by default. On a CPU, eager is faster."},
    )
    freeze_selection: bool = field(default=False, metadata={"help": "Phase 2: freeze the selector from phase 1."})
    codebook_rows: int | None = field(
        default=None,
        metadata={
            "help": "Number of rows to initialize the codebook with (k-means); those of the first batch by default."
        },
    )
    codebook_start_step: int = field(
        default=0,
        metadata={
            "help": "With codebook_rows, the step at which the codebook is initialized; the last step at the latest."
        },
    )
    feature_probe: str | None = field(
        default=None,
        metadata={
            "help": "A safetensors file with a linear map, `weight`, whose values reconstruction must preserve."
        },
    )
    probe_loss_weight: float = field(default=0.5, metadata={"help": "With feature_probe, the weight of its loss."})
    keep_ratio: float | None = field(
        default=None, metadata={"help": "With selection=ratio, the share of patches to keep."}
    )
    merge_dropped: bool = field(
        default=True, metadata={"help": "Experimental: false discards dropped patches instead of merging them."}
    )
    patch_choice: str | None = field(
        default=None,
        metadata={"help": "Experimental: `file.py:function` that selects patches instead of the selector."},
    )
    place_head: bool = field(default=True, metadata={"help": "Experimental: false leaves out the place head."})
    place_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the place head's loss; that of the model by default."}
    )
    know_places: bool = field(
        default=False, metadata={"help": "Experimental: use the true positions instead of predicted ones."}
    )


class SwitchSelection(TrainerCallback):
    """Switches to the final selection rule for the last steps of training."""

    def __init__(self, config, last: str, share: float):
        self.config, self.first, self.last, self.share = config, config.selection, last, share

    def on_step_begin(self, args, state, control, **kwargs):
        self._switch(state.global_step, state.max_steps)

    def on_train_end(self, args, state, control, **kwargs):
        # Needed if a finished run is started again, because it then takes no step.
        self._switch(state.max_steps - 1, state.max_steps)

    def _switch(self, step: int, max_steps: int) -> None:
        self.config.selection = self.last if step >= (1 - self.share) * max_steps else self.first


def collate_features(rows: list[dict], column: str, width: int) -> dict[str, torch.Tensor]:
    """Stacks precomputed features, `(batch_size, num_patches, feature_size)`."""
    return {"features": torch.stack([from_bytes(row[column], width) for row in rows]).float()}


def collate_images(rows: list[dict], column: str, image_processor: LaVITImageProcessor) -> dict[str, torch.Tensor]:
    """Preprocesses images, `(batch_size, num_channels, image_size, image_size)`."""
    images = [row[column] for row in rows]
    return {"pixel_values": image_processor(images, return_tensors="pt").pixel_values}


def load_data(settings: TokenizerSettings, model: LaVITVisualTokenizerForPreTraining):
    """The splits, and a collator for their rows."""
    splits = [
        load_split(settings.dataset, split, settings.streaming) if split else None
        for split in (settings.train_split, settings.validation_split)
    ]
    if settings.features_column in (splits[0].column_names or ()):
        return *splits, partial(collate_features, column=settings.features_column, width=model.config.feature_size)
    image_processor = LaVITImageProcessor.from_pretrained(settings.model)
    splits = [split and skip_broken_images(split, settings.image_column) for split in splits]
    return *splits, partial(collate_images, column=settings.image_column, image_processor=image_processor)


def load_model(settings: TokenizerSettings) -> LaVITVisualTokenizerForPreTraining:
    """The model with the given settings. Raises a `TrainingError` for phase 2 without phase 1."""
    config = LaVITVisualTokenizerConfig.from_pretrained(settings.model)
    if not settings.place_head:
        config.detokenizer_config.num_place_layers = 0
    if settings.place_loss_weight is not None:
        config.place_loss_weight = settings.place_loss_weight
    model = LaVITVisualTokenizerForPreTraining.from_pretrained(
        settings.model, config=config, dtype=torch.float32, attn_implementation=settings.attn_implementation
    )
    if settings.freeze_selection:
        comes_from_selection = LaVITTokenSelectionForPreTraining.__name__ in (model.config.architectures or ())
        if not (comes_from_selection or model.codebook_trainer.has_started):
            raise TrainingError(
                f"freeze_selection keeps the selection of a trained selector, but {settings.model} was not written "
                "by train_token_selection.py, and its codes are not trained. Run that script first, or leave "
                "freeze_selection out to train the selector together with the codes."
            )
        model.freeze_selection()
    model.config.selection = settings.selection or model.config.selection
    model.config.keep_ratio = settings.keep_ratio or model.config.keep_ratio
    model.config.merge_dropped = settings.merge_dropped
    model.patch_choice = load_function(settings.patch_choice) if settings.patch_choice else None
    model.knows_places = settings.know_places
    if settings.feature_probe:
        model.add_feature_probe(load_file(settings.feature_probe)["weight"], settings.probe_loss_weight)
    return model


def add_codebook_start(trainer: LaVITTrainer, settings: TokenizerSettings) -> None:
    """Adds a callback that initializes the codebook from rows of the training data."""
    prepare = partial(send_to_device, device=trainer.args.device)
    trainer.add_callback(
        CodebookStart(
            trainer.model,
            settings.codebook_start_step,
            lambda: map(prepare, trainer.get_train_dataloader()),
            settings.codebook_rows,
        )
    )


def main() -> None:
    """Train, resuming from the last checkpoint in `output_dir` if there is one."""
    settings, training_args = load_settings(TokenizerSettings, TrainingArguments)
    checkpoint = find_checkpoint(training_args, [settings])
    training_args.remove_unused_columns = False
    set_seed(training_args.seed)
    model = load_model(settings)
    train_data, validation_data, collate = load_data(settings, model)
    trainer = LaVITTrainer(
        model,
        training_args,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=collate,
        meter=TokenizerMeter(model.config.codebook_size),
    )
    trainer.add_callback(SeedPerProcess())
    if settings.final_selection:
        trainer.add_callback(SwitchSelection(model.config, settings.final_selection, settings.final_selection_share))
    if settings.codebook_rows:
        add_codebook_start(trainer, settings)
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    LaVITImageProcessor.from_pretrained(settings.model).save_pretrained(training_args.output_dir)


if __name__ == "__main__":
    run_script(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Stage 1, phase 1: trains the selector to keep the patches from which the others can be reconstructed (paper, section
3.1).

    accelerate launch examples/train_token_selection.py examples/runs/emoji_token_selection.yaml
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from PIL import Image
from transformers import TrainingArguments, set_seed

from lavit_hf import LaVITImageProcessor, LaVITTokenSelectionForPreTraining
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split, skip_broken_images
from lavit_hf.training.feature_rows import from_bytes
from lavit_hf.training.meters import SelectionMeter
from lavit_hf.training.samples import SamplePictures
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.selection_schedule import SelectionWarmUp, calibrate_threshold
from lavit_hf.training.settings import find_checkpoint, load_settings
from lavit_hf.training.trainer import LaVITTrainer
from lavit_hf.visualization import draw_keep_mask


COLUMNS = 6  # images per row of the contact sheet


@dataclass
class SelectionSettings:
    """Settings of the model and the data."""

    model: str = field(metadata={"help": "Path or Hub id of the tokenizer to start from."})
    dataset: str = field(metadata={"help": "Images, or precomputed features."})
    train_split: str = "train"
    validation_dataset: str | None = field(
        default=None, metadata={"help": "Images for evaluation and for images of kept patches."}
    )
    validation_split: str = "validation"
    streaming: bool = False
    image_column: str = "image"
    features_column: str = field(
        default="features",
        metadata={"help": "Column of precomputed features, used instead of the images if it exists."},
    )
    complexity_column: str | None = field(
        default=None,
        metadata={"help": "Column to compare the number of kept patches with, such as the drawn area."},
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "Attention implementation; chosen by transformers by default. On a CPU, eager is faster."},
    )
    selection_gradient: str = field(
        default="antithetic", metadata={"help": "antithetic, or straight_through as in the paper."}
    )
    ratio_loss_weight: float | None = field(
        default=None, metadata={"help": "Weight of the loss of the kept share; that of the tokenizer by default."}
    )
    random_mask_steps: int = field(default=150, metadata={"help": "Number of steps with random masks."})
    places_by_rank: bool = field(
        default=False, metadata={"help": "Experimental: the decoder only knows the order of the kept patches."}
    )
    calibration_images: int = field(default=4096, metadata={"help": "Number of images to calibrate the threshold on."})
    num_pictures: int = field(default=24, metadata={"help": "Number of images to save at each evaluation."})


class Collator:
    """
    Collates rows with images (`pixel_values`) or precomputed features (`features`), and `complexity` if the rows have
    it.
    """

    def __init__(self, settings: SelectionSettings, image_processor: LaVITImageProcessor, feature_size: int):
        self.settings, self.image_processor, self.feature_size = settings, image_processor, feature_size

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = {}
        if self.settings.features_column in rows[0]:
            features = [from_bytes(row[self.settings.features_column], self.feature_size) for row in rows]
            batch["features"] = torch.stack(features).float()
        else:
            images = [row[self.settings.image_column] for row in rows]
            batch["pixel_values"] = self.image_processor(images, return_tensors="pt").pixel_values
        if self.settings.complexity_column in rows[0]:
            complexity = [torch.tensor(row[self.settings.complexity_column]).float().mean() for row in rows]
            batch["complexity"] = torch.stack(complexity)
        return batch


def load_pictures(source: str, split: str, settings: SelectionSettings):
    """A split; if it contains images, without broken ones."""
    data = load_split(source, split, settings.streaming)
    has_features = settings.features_column in (data.column_names or ())
    return data if has_features else skip_broken_images(data, settings.image_column)


def draw_pictures(model: LaVITTokenSelectionForPreTraining, rows: list[dict], collate: Collator) -> list[Image.Image]:
    """Images with their kept patches."""
    batch = {name: tensor.to(model.device) for name, tensor in collate(rows).items()}
    masks = model(**batch).keep_mask
    return [draw_keep_mask(row[collate.settings.image_column], mask, size=192) for row, mask in zip(rows, masks)]


def calibration_batches(trainer: LaVITTrainer, number: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches with the first `number` rows of the shuffled training data, the same in each process."""
    batch_size = trainer.args.per_device_eval_batch_size
    data = trainer.train_dataset
    data = data.shuffle(seed=trainer.args.seed)
    rows = islice(iter(data), number)
    while batch := list(islice(rows, batch_size)):
        yield {name: tensor.to(trainer.args.device) for name, tensor in trainer.data_collator(batch).items()}


def main() -> None:
    """Train, resuming from the last checkpoint in `output_dir` if there is one."""
    settings, training_args = load_settings(SelectionSettings, TrainingArguments)
    checkpoint = find_checkpoint(training_args, [settings])
    training_args.remove_unused_columns = False
    set_seed(training_args.seed)
    weights = {} if settings.ratio_loss_weight is None else {"ratio_loss_weight": settings.ratio_loss_weight}
    model = LaVITTokenSelectionForPreTraining.from_pretrained(
        settings.model,
        dtype=torch.float32,
        attn_implementation=settings.attn_implementation,
        selection="threshold",
        selection_gradient=settings.selection_gradient,
        **weights,
    )
    model.places_by_rank = settings.places_by_rank
    image_processor = LaVITImageProcessor.from_pretrained(settings.model)
    train_data = load_pictures(settings.dataset, settings.train_split, settings)
    validation_data = None
    if settings.validation_dataset:
        validation_data = load_pictures(settings.validation_dataset, settings.validation_split, settings)
    collate = Collator(settings, image_processor, model.config.feature_size)
    trainer = LaVITTrainer(
        model,
        training_args,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=collate,
        meter=SelectionMeter(),
        callbacks=[SeedPerProcess(), SelectionWarmUp(model, settings.random_mask_steps)],
    )
    shown = list(islice(iter(validation_data or ()), settings.num_pictures))
    if shown and settings.image_column in shown[0]:
        trainer.add_callback(SamplePictures(lambda: draw_pictures(model, shown, collate), COLUMNS))
    trainer.train(resume_from_checkpoint=checkpoint)
    calibrate_threshold(model, calibration_batches(trainer, settings.calibration_images), model.config.keep_ratio)
    trainer.save_model()
    image_processor.save_pretrained(training_args.output_dir)


if __name__ == "__main__":
    run_script(main)

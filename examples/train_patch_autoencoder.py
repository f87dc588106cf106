# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Trains the decoder of a fitted autoencoder for small images, which smooths the images of the pixel decoder.

    accelerate launch examples/train_patch_autoencoder.py examples/runs/emoji_patch_autoencoder.yaml
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from diffusers.image_processor import VaeImageProcessor
from transformers import TrainingArguments, set_seed

from lavit_hf import PatchAutoencoder, PatchAutoencoderForTraining
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split, skip_broken_images
from lavit_hf.training.pixel_data import Collator, read_pixels
from lavit_hf.training.samples import SamplePictures
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.settings import find_checkpoint, load_settings
from lavit_hf.training.trainer import LaVITTrainer


@dataclass
class PatchAutoencoderSettings:
    """Settings of the model and the data."""

    vae: str = field(metadata={"help": "Folder whose `vae` contains the fitted autoencoder, with a decoder."})
    dataset: str = field(metadata={"help": "Dataset of images."})
    size: int = field(default=64, metadata={"help": "Image size in pixels."})
    largest_noise: float = field(default=0.5, metadata={"help": "Maximum noise added to latents of unit variance."})
    train_split: str = "train"
    validation_split: str | None = None
    image_column: str = "image"
    sample_pictures: int = field(
        default=24, metadata={"help": "Number of held-out images to decode at each evaluation."}
    )


def load_model(settings: PatchAutoencoderSettings) -> PatchAutoencoderForTraining:
    """The fitted autoencoder, whose decoder is trained."""
    vae = PatchAutoencoder.from_pretrained(settings.vae, subfolder="vae")
    return PatchAutoencoderForTraining(vae, settings.largest_noise)


def load_pictures(settings: PatchAutoencoderSettings, split: str | None):
    """The images of a split, without broken ones."""
    if split is None:
        return None
    pictures = load_split(settings.dataset, split)
    return skip_broken_images(pictures.select_columns([settings.image_column]), settings.image_column)


def decode_noisy(model: PatchAutoencoderForTraining, pixel_values: torch.Tensor) -> list:
    """Images reconstructed from noisy latents: each first with the components only, then with the decoder."""
    pixel_values = pixel_values.to(model.vae.device)
    noisy = model.add_noise(model.vae.encode(pixel_values).latent_dist.mode())
    pairs = torch.stack([model.vae.decode_components(noisy), model.vae.decode(noisy).sample], dim=1)
    return VaeImageProcessor(vae_scale_factor=1).postprocess(pairs.flatten(end_dim=1).float())


def main() -> None:
    """Train, resuming from the last checkpoint in `output_dir` if there is one."""
    settings, training_args = load_settings(PatchAutoencoderSettings, TrainingArguments)
    checkpoint = find_checkpoint(training_args, [settings])
    training_args.remove_unused_columns = False
    set_seed(training_args.seed)
    model = load_model(settings)
    train_data, validation_data = (
        load_pictures(settings, split) for split in (settings.train_split, settings.validation_split)
    )
    read_pictures = partial(
        read_pixels,
        column=settings.image_column,
        image_processor=VaeImageProcessor(vae_scale_factor=model.vae.spatial_compression_ratio),
        size=settings.size,
    )
    trainer = LaVITTrainer(
        model,
        training_args,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=Collator(pixel_values=read_pictures),
        callbacks=[SeedPerProcess()],
    )
    if validation_data is not None:
        shown = read_pictures(list(validation_data.take(settings.sample_pictures)))
        trainer.add_callback(SamplePictures(partial(decode_noisy, model, shown), columns=8))
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        model.vae.save_pretrained(Path(training_args.output_dir) / "vae")


if __name__ == "__main__":
    run_script(main)

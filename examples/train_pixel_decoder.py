# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Trains the pixel decoder: a U-Net learns to generate images from their codes (paper, section 3.1).

    accelerate launch examples/train_pixel_decoder.py examples/runs/emoji_pixel_decoder.yaml
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from transformers import TrainingArguments, set_seed

from lavit_hf import (
    LaVITDetokenizer,
    LaVITDetokenizerConfig,
    LaVITImageProcessor,
    LaVITPipeline,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
    PatchAutoencoder,
)
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split, skip_broken_images
from lavit_hf.training.ema import AveragedWeights
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.modeling_pixel_decoder_training import LaVITPixelDecoderForTraining
from lavit_hf.training.pixel_data import (
    Collator,
    cache_latents,
    pair_rows,
    read_codes,
    read_features,
    read_images,
    read_latents,
    read_pixels,
)
from lavit_hf.training.samples import SamplePictures
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.settings import find_checkpoint, load_settings
from lavit_hf.training.trainer import LaVITTrainer


@dataclass
class PixelDecoderSettings:
    """Settings of the model and the data."""

    tokenizer: str = field(
        metadata={"help": "Path or Hub id of a visual tokenizer trained in stage 1, or of a LaVIT model."}
    )
    vae: str = field(metadata={"help": "Path or Hub id of a repo whose `vae` contains the autoencoder."})
    dataset: str = field(metadata={"help": "Images, with or without their codes or features."})
    conditions: str | None = field(
        default=None, metadata={"help": "Codes or features of the same images, row by row."}
    )
    detokenizer: str | None = field(
        default=None, metadata={"help": "Repo whose `detokenizer` is used instead of the one trained in stage 1."}
    )
    unet: str | None = field(default=None, metadata={"help": "Repo with the `unet` to continue from."})
    unet_config: dict | None = field(default=None, metadata={"help": "Configuration of a new U-Net, instead of unet."})
    scheduler: dict = field(default_factory=dict, metadata={"help": "Settings of the DDIMScheduler."})
    train_split: str = "train"
    validation_split: str | None = None
    streaming: bool = False
    image_column: str = "image"
    codes_column: str = field(
        default="codes", metadata={"help": "Column of codes, used as the condition if it exists."}
    )
    features_column: str = field(
        default="features",
        metadata={"help": "Column of precomputed features, used instead of the images if it exists."},
    )
    condition: str = field(
        default="codes", metadata={"help": "What the U-Net is conditioned on: `codes`, or `features` directly."}
    )
    condition_dropout: float = field(default=0.1, metadata={"help": "Share of images trained without a condition."})
    min_snr_gamma: float | None = field(
        default=None, metadata={"help": "Upper bound on the weight of steps with little noise."}
    )
    ema_decay: float = field(
        default=0.9999, metadata={"help": "Decay of the averaged weights, which are the ones saved."}
    )
    cache_latents: bool = field(default=False, metadata={"help": "Compute the latents once, before training."})
    sample_pictures: int = field(
        default=24, metadata={"help": "Number of held-out images to generate at each evaluation."}
    )
    sample_guidance: float = 3.0
    sample_steps: int = 25


def load_model(settings: PixelDecoderSettings) -> LaVITPixelDecoderForTraining:
    """The model with all its parts."""
    visual_tokenizer, detokenizer = load_tokenizer(settings)
    return LaVITPixelDecoderForTraining(
        unet=load_unet(settings).to(memory_format=torch.channels_last),  # faster on CPUs and on tensor cores
        detokenizer=detokenizer,
        vae=load_autoencoder(settings),
        scheduler=load_scheduler(settings),
        visual_tokenizer=visual_tokenizer,
        condition=settings.condition,
        condition_dropout=settings.condition_dropout,
        min_snr_gamma=settings.min_snr_gamma,
    )


def load_tokenizer(settings: PixelDecoderSettings) -> tuple[LaVITVisualTokenizer, LaVITDetokenizer]:
    """The frozen tokenizer, and the detokenizer with the tokenizer's codebook."""
    if settings.detokenizer is None:
        trained = LaVITVisualTokenizerForPreTraining.from_pretrained(settings.tokenizer, dtype=torch.float32)
        visual_tokenizer, detokenizer = trained.visual_tokenizer, trained.detokenizer
    else:
        visual_tokenizer = LaVITVisualTokenizer.from_pretrained(settings.tokenizer, dtype=torch.float32)
        detokenizer = LaVITDetokenizer.from_pretrained(
            settings.detokenizer, subfolder="detokenizer", dtype=torch.float32
        )
    detokenizer.set_codebook(visual_tokenizer.quantizer.codebook.weight)
    return visual_tokenizer, detokenizer


def load_autoencoder(settings: PixelDecoderSettings) -> AutoencoderKL | PatchAutoencoder:
    """The autoencoder, of the class named in its configuration."""
    name = AutoencoderKL.load_config(settings.vae, subfolder="vae")["_class_name"]
    kind = PatchAutoencoder if name == PatchAutoencoder.__name__ else AutoencoderKL
    return kind.from_pretrained(settings.vae, subfolder="vae")


def load_unet(settings: PixelDecoderSettings) -> UNet2DConditionModel:
    """A trained U-Net, or a new one."""
    if (settings.unet is None) == (settings.unet_config is None):
        raise TrainingError("set either unet, to continue from a trained one, or unet_config, to create a new one.")
    if settings.unet is not None:
        return UNet2DConditionModel.from_pretrained(settings.unet, subfolder="unet")
    return UNet2DConditionModel.from_config(settings.unet_config)


def load_scheduler(settings: PixelDecoderSettings) -> DDIMScheduler:
    """The noise schedule: that of the trained U-Net if there is one, overridden by the run's settings."""
    if settings.unet is None:
        return DDIMScheduler(**settings.scheduler)
    return DDIMScheduler.from_pretrained(settings.unet, subfolder="scheduler", **settings.scheduler)


def load_rows(settings: PixelDecoderSettings, split: str | None):
    """A split, with each image paired with its condition."""
    if split is None:
        return None
    pictures = load_split(settings.dataset, split, settings.streaming)
    if settings.streaming:
        if settings.conditions or settings.cache_latents:
            raise TrainingError(
                "streaming supports neither conditions nor cache_latents. Codes or features must be columns of the "
                "dataset."
            )
        return skip_broken_images(pictures, settings.image_column)
    conditions = load_split(settings.conditions, split) if settings.conditions else None
    return pair_rows(pictures, conditions, settings.image_column)


def choose_condition(settings: PixelDecoderSettings, columns: list[str]) -> tuple[str, str]:
    """The type of condition and its column: codes if available, else features, else the images themselves."""
    if settings.condition == "codes" and settings.codes_column in columns:
        return "codes", settings.codes_column
    if settings.features_column in columns:
        return "features", settings.features_column
    return "images", settings.image_column


def build_reader(name: str, column: str, settings: PixelDecoderSettings, config: LaVITDetokenizerConfig) -> Callable:
    """A function that reads the column of conditions."""
    if name == "codes":
        return partial(read_codes, column=column, num_patches=config.num_patches)
    if name == "features":
        return partial(read_features, column=column, width=config.feature_size)
    image_processor = LaVITImageProcessor.from_pretrained(settings.tokenizer)
    return partial(read_images, column=column, image_processor=image_processor)


def load_data(settings: PixelDecoderSettings, model: LaVITPixelDecoderForTraining, training_args: TrainingArguments):
    """The splits, and a collator for their rows."""
    splits = [load_rows(settings, split) for split in (settings.train_split, settings.validation_split)]
    name, column = choose_condition(settings, splits[0].column_names)
    splits = [rows and rows.select_columns(sorted({settings.image_column, column})) for rows in splits]
    readers = {name: build_reader(name, column, settings, model.detokenizer.config)}
    read_pictures = partial(
        read_pixels,
        column=settings.image_column,
        image_processor=VaeImageProcessor(vae_scale_factor=model.vae_scale_factor),
        size=model.picture_size,
    )
    if not settings.cache_latents:
        return *splits, Collator(pixel_values=read_pictures, **readers)
    model.vae.to(training_args.device)
    with training_args.main_process_first(desc="latents"):
        splits = [rows and cache_latents(rows, model, read_pictures, name == "images") for rows in splits]
    return *splits, Collator(latents=partial(read_latents, size=model.unet.config.sample_size), **readers)


def build_pipeline(model: LaVITPixelDecoderForTraining) -> LaVITPipeline:
    """The part of the pipeline that decodes images."""
    pipeline = LaVITPipeline(None, None, model.detokenizer, model.unet, model.vae, model.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint_pairs(
    model: LaVITPixelDecoderForTraining, average: AveragedWeights, batch: dict, guidance_scale: float, num_steps: int
) -> list:
    """Held-out images as reconstructed by the autoencoder, each followed by the image generated by the pipeline."""
    pipeline = build_pipeline(model)
    batch = {name: tensor.to(model.unet.device) for name, tensor in batch.items()}
    pixel_values, latents = batch.pop("pixel_values", None), batch.pop("latents", None)
    latents = model.encode_pictures(pixel_values) if latents is None else latents
    noise = pipeline.prepare_latents(
        len(latents), model.picture_size, model.picture_size, torch.Generator().manual_seed(0)
    )
    with average.in_place():
        painted = pipeline.denoise(noise, model.encode_condition(**batch), num_steps, guidance_scale)
    pictures = pipeline.decode_latents(torch.stack([latents, painted], dim=1).flatten(end_dim=1))
    return pipeline.image_processor.postprocess(pictures, do_denormalize=[False] * len(pictures))


def main() -> None:
    """Train, resuming from the last checkpoint in `output_dir` if there is one."""
    settings, training_args = load_settings(PixelDecoderSettings, TrainingArguments)
    checkpoint = find_checkpoint(training_args, [settings])
    training_args.remove_unused_columns = False
    set_seed(training_args.seed)
    model = load_model(settings)
    train_data, validation_data, collate = load_data(settings, model, training_args)
    average = AveragedWeights(model, settings.ema_decay)
    trainer = LaVITTrainer(
        model,
        training_args,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=collate,
        callbacks=[SeedPerProcess(), average],
    )
    if validation_data is not None:
        shown = collate(list(islice(validation_data, settings.sample_pictures)))
        paint = partial(paint_pairs, model, average, shown, settings.sample_guidance, settings.sample_steps)
        trainer.add_callback(SamplePictures(paint, columns=8))
    trainer.train(resume_from_checkpoint=checkpoint)
    with average.in_place():
        if trainer.is_world_process_zero():
            model.unet.to(memory_format=torch.contiguous_format)  # required by safetensors
            build_pipeline(model).save_pretrained(training_args.output_dir)


if __name__ == "__main__":
    run_script(main)

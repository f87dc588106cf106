# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Stage 0: creates the untrained visual tokenizer for stage 1, with a pretrained encoder.

    python examples/initialize_visual_tokenizer.py examples/runs/toy_stage_0.yaml

The encoder can be any transformers vision model that returns patches, or the encoder of a LaVIT model.
"""

from dataclasses import dataclass, field
from itertools import islice

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedModel, set_seed

from lavit_hf import (
    LaVITConfig,
    LaVITDetokenizerConfig,
    LaVITImageProcessor,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerConfig,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.lavit.image_loading import to_rgb_image
from lavit_hf.lavit.modeling_visual_tokenizer import FeatureStandardizer
from lavit_hf.training.command_line import run_script
from lavit_hf.training.data import load_split, skip_broken_images
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.settings import load_settings


# Settings in a LaVIT's configuration that belong to its encoder.
ENCODER_SETTINGS = (
    "encoder_output", "encoder_final_norm", "image_size", "patch_size", "feature_size", "standardize_features",
    "use_position_embeddings", "selector_feature_size",
)  # fmt: skip


@dataclass
class StartSettings:
    """Settings of the untrained visual tokenizer."""

    encoder: str = field(
        metadata={"help": "Path or Hub id of a vision model, or of a LaVIT model whose encoder is used."}
    )
    output: str = field(metadata={"help": "Folder for the tokenizer and its image processor."})
    tokenizer: dict = field(default_factory=dict, metadata={"help": "Settings of LaVITVisualTokenizerConfig."})
    detokenizer: dict = field(default_factory=dict, metadata={"help": "Settings of LaVITDetokenizerConfig."})
    dataset: str | None = field(
        default=None,
        metadata={
            "help": "Images for the channel statistics of standardize_features; those of the LaVIT model by default."
        },
    )
    train_split: str = "train"
    image_column: str = "image"
    statistics_images: int = field(default=1024, metadata={"help": "Number of images for the statistics."})
    seed: int = 0


def load_encoder(source: str) -> tuple[PreTrainedModel, dict, LaVITImageProcessor, FeatureStandardizer | None]:
    """The encoder, its settings if it is from a LaVIT, its image processor, and its channel statistics if any."""
    config = AutoConfig.from_pretrained(source)
    if isinstance(config, LaVITConfig):
        tokenizer = LaVITVisualTokenizer.from_pretrained(source, dtype=torch.float32)
        known = {name: getattr(tokenizer.config, name) for name in ENCODER_SETTINGS if hasattr(tokenizer.config, name)}
        image_processor = LaVITImageProcessor.from_pretrained(source)
        return tokenizer.encoder.model, known, image_processor, tokenizer.encoder.standardizer
    own = AutoImageProcessor.from_pretrained(source)
    size = {"height": config.image_size, "width": config.image_size}
    image_processor = LaVITImageProcessor(size=size, image_mean=own.image_mean, image_std=own.image_std)
    return AutoModel.from_pretrained(source, dtype=torch.float32), {}, image_processor, None


def build_model(settings: StartSettings, encoder: PreTrainedModel, known: dict) -> LaVITVisualTokenizerForPreTraining:
    """The untrained tokenizer, with a detokenizer of matching sizes."""
    config = LaVITVisualTokenizerConfig(encoder_config=encoder.config, **{**known, **settings.tokenizer})
    sizes = {name: getattr(config, name) for name in ("num_patches", "feature_size", "codebook_dim")}
    config.detokenizer_config = LaVITDetokenizerConfig(**{**sizes, **settings.detokenizer})
    return LaVITVisualTokenizerForPreTraining(config, encoder).eval()


def set_standardizer(
    model: LaVITVisualTokenizerForPreTraining,
    settings: StartSettings,
    image_processor: LaVITImageProcessor,
    standardizer: FeatureStandardizer | None,
) -> None:
    """Sets the statistics that standardize the encoder's channels: computed from images, or those of its LaVIT."""
    if settings.dataset:
        fit_standardizer(model, settings, image_processor)
    elif standardizer is not None:
        model.visual_tokenizer.encoder.standardizer.load_state_dict(standardizer.state_dict())
    else:
        raise TrainingError(
            f"standardize_features needs channel statistics, but {settings.encoder} has none. Set dataset to compute "
            "them from images, or set standardize_features to false."
        )


@torch.no_grad()
def fit_standardizer(
    model: LaVITVisualTokenizerForPreTraining, settings: StartSettings, image_processor: LaVITImageProcessor
) -> None:
    """Computes the statistics of the encoder's channels over images."""
    pictures = skip_broken_images(load_split(settings.dataset, settings.train_split), settings.image_column)
    rows = islice(pictures.shuffle(seed=settings.seed), settings.statistics_images)
    images = [to_rgb_image(row[settings.image_column]) for row in rows]
    pixel_values = image_processor(images, return_tensors="pt").pixel_values
    tokenizer = model.visual_tokenizer
    tokenizer.encoder.standardizer.fit(tokenizer.encode(pixel_values).last_hidden_state)


def main() -> None:
    """Create the visual tokenizer and save it."""
    (settings,) = load_settings(StartSettings)
    set_seed(settings.seed)
    encoder, known, image_processor, standardizer = load_encoder(settings.encoder)
    model = build_model(settings, encoder, known)
    if model.config.standardize_features:
        set_standardizer(model, settings, image_processor, standardizer)
    model.save_pretrained(settings.output)
    image_processor.save_pretrained(settings.output)
    print(f"{model.config.num_patches} patches, {model.config.codebook_size} codes, in {settings.output}")


if __name__ == "__main__":
    run_script(main)

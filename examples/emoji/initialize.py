# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Stage 0: creates the small, untrained visual tokenizer around the pretrained encoder.

    python examples/emoji/initialize.py --data .cache/emoji/set --output .cache/emoji/stage-0
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from datasets import load_from_disk

from lavit_emoji.encoder import fetch_weights, load_encoder
from lavit_hf import (
    LaVITDetokenizerConfig,
    LaVITImageProcessor,
    LaVITVisualTokenizerConfig,
    LaVITVisualTokenizerForPreTraining,
)


IMAGE_SIZE, PATCH_SIZE, FEATURE_SIZE = 128, 16, 592
LOCAL_SIZE = 272  # channels of strides 8 and 16; those of stride 32 see the whole image
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_PATCHES = (IMAGE_SIZE // PATCH_SIZE) ** 2

DECODER = LaVITDetokenizerConfig(
    num_patches=NUM_PATCHES,
    feature_size=FEATURE_SIZE,
    codebook_dim=32,
    hidden_size=256,
    num_hidden_layers=2,
    num_place_layers=2,
    num_attention_heads=4,
    intermediate_size=512,
    cross_attention_dims=(192,),
    use_condition_positions=True,
)


def tokenizer_config(encoder_config) -> LaVITVisualTokenizerConfig:
    """The configuration of the small visual tokenizer: keeps a third of 8 x 8 patches, 4,096 codes."""
    return LaVITVisualTokenizerConfig(
        encoder_config=encoder_config,
        encoder_output="feature_maps",
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        feature_size=FEATURE_SIZE,
        standardize_features=True,
        use_position_embeddings=True,
        selector_feature_size=LOCAL_SIZE,
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        merger_softmax="masked",
        codebook_size=4096,
        codebook_dim=DECODER.codebook_dim,
        ratio_loss_weight=6.0,
        image_ratio_loss_weight=0.5,
        commitment_loss_weight=0.25,
        codebook_decay=0.98,
        codebook_restart_threshold=0.2,
        detokenizer_config=DECODER,
    )


def main(
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the tokenizer and its image processor.")],
    cache: Annotated[Path, typer.Option(help="Folder for the downloaded weights.")] = Path(".cache/emoji/packages"),
    sample: Annotated[int, typer.Option(help="Number of images for the channel statistics.")] = 1024,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Create the tokenizer, with the encoder's weights and channel statistics."""
    torch.manual_seed(seed)
    encoder = load_encoder(fetch_weights(cache))
    model = LaVITVisualTokenizerForPreTraining(tokenizer_config(encoder.config), encoder).eval()
    image_processor = LaVITImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    images = load_from_disk(data)["train"].shuffle(seed=seed).select(range(sample))["image"]
    pixel_values = image_processor(list(images), return_tensors="pt").pixel_values
    with torch.no_grad():
        features = model.visual_tokenizer.encode(pixel_values).last_hidden_state
    model.visual_tokenizer.encoder.standardizer.fit(features)
    model.save_pretrained(output)
    image_processor.save_pretrained(output)


if __name__ == "__main__":
    typer.run(main)

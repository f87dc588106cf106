# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Infers sizes from a LaVIT's tensors, because original checkpoints have no config for their visual parts."""

import math
import re
from collections.abc import Mapping

import torch
from transformers import Blip2VisionConfig, PreTrainedConfig

from ..lavit.configuration_lavit import LaVITConfig, LaVITDetokenizerConfig, LaVITVisualTokenizerConfig
from .errors import ConversionError


ENCODER_PREFIX = "visual_tokenizer.encoder.model"
MERGER_PREFIX = "visual_tokenizer.merger"


def infer_config(
    specs: Mapping[str, torch.Tensor], text_config: PreTrainedConfig, num_attention_heads: int
) -> LaVITConfig:
    """
    Infers the configuration of a converted checkpoint, set to the behavior of the release.

    Args:
        specs (`Mapping[str, torch.Tensor]`):
            Tensors by their new names. Meta tensors are sufficient.
        text_config (`PreTrainedConfig`):
            The language model's configuration.
        num_attention_heads (`int`):
            Number of attention heads in the encoder and merger, which can't be inferred from tensors.

    Raises:
        ConversionError: If the width isn't divisible by the number of heads, or the vocabulary doesn't include the
            codes.
    """
    width = _shape(specs, f"{ENCODER_PREFIX}.embeddings.class_embedding", 3)[-1]
    if num_attention_heads < 1 or width % num_attention_heads:
        raise ConversionError(
            f"the encoder's width {width} is not divisible by {num_attention_heads} attention heads. Pass the right "
            "number with --num-attention-heads."
        )
    patch_size = _shape(specs, f"{ENCODER_PREFIX}.embeddings.patch_embedding.weight", 4)[-1]
    num_patches = _shape(specs, f"{ENCODER_PREFIX}.embeddings.position_embedding", 3)[1] - 1
    if math.isqrt(num_patches) ** 2 != num_patches or not num_patches:
        raise ConversionError(
            f"the encoder has {num_patches} patch positions, which do not form a square: it is damaged."
        )
    encoder_config = Blip2VisionConfig(
        hidden_size=width,
        intermediate_size=_shape(specs, f"{ENCODER_PREFIX}.encoder.layers.0.mlp.fc1.weight")[0],
        num_hidden_layers=count_layers(specs, f"{ENCODER_PREFIX}.encoder."),
        num_attention_heads=num_attention_heads,
        patch_size=patch_size,
        image_size=math.isqrt(num_patches) * patch_size,
    )
    codebook_size, codebook_dim = _shape(specs, "visual_tokenizer.quantizer.codebook.weight")
    visual_config = LaVITVisualTokenizerConfig(
        encoder_config=encoder_config,
        num_hidden_layers=count_layers(specs, f"{MERGER_PREFIX}."),
        num_attention_heads=num_attention_heads,
        intermediate_size=_shape(specs, f"{MERGER_PREFIX}.layers.0.mlp.fc1.weight")[0],
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        merger_softmax="original",
        selection="sample",
    )
    _check_vocabulary(specs, text_config, codebook_size)
    _check_num_layers(specs, text_config)
    return LaVITConfig(
        visual_tokenizer_config=visual_config,
        text_config=text_config,
        understanding_selector=any(name.startswith("understanding.selector.") for name in specs),
    )


def infer_detokenizer_config(specs: Mapping[str, torch.Tensor], num_attention_heads: int) -> LaVITDetokenizerConfig:
    """
    Infers the configuration of a converted detokenizer of either resolution.

    Args:
        specs (`Mapping[str, torch.Tensor]`):
            Tensors by their new names. Meta tensors are sufficient.
        num_attention_heads (`int`):
            Number of attention heads, which can't be inferred from tensors.

    Raises:
        ConversionError: If tensors are missing.
    """
    _, num_patches, hidden_size = _shape(specs, "query_embedding", 3)
    projections = [name for name in specs if re.fullmatch(r"condition_projections\.\d+\.weight", name)]
    pooled = specs.get("pooler.out_proj.weight")
    negative = specs.get("negative_embeds")
    return LaVITDetokenizerConfig(
        num_patches=num_patches,
        feature_size=_shape(specs, "feature_projection.2.weight")[0],
        codebook_dim=_shape(specs, "in_proj.weight")[1],
        hidden_size=hidden_size,
        num_hidden_layers=count_layers(specs, ""),
        num_attention_heads=num_attention_heads,
        intermediate_size=_shape(specs, "layers.0.mlp.fc1.weight")[0],
        cross_attention_dims=[_shape(specs, name)[0] for name in sorted(projections)],
        pooled_projection_dim=None if pooled is None else pooled.shape[0],
        num_negative_embeds=0 if negative is None else negative.shape[1],
    )


def _check_vocabulary(specs: Mapping[str, torch.Tensor], text_config: PreTrainedConfig, codebook_size: int) -> None:
    rows = _shape(specs, "language_model.model.embed_tokens.weight")[0]
    if rows != text_config.vocab_size or rows <= codebook_size + 2:
        raise ConversionError(
            f"the language model has {rows} embedding rows and a vocab_size of {text_config.vocab_size}, which must "
            f"count {codebook_size} codes and two image marks after its text: language_model/ and visual_tokenizer/ "
            "do not belong together."
        )


def _check_num_layers(specs: Mapping[str, torch.Tensor], text_config: PreTrainedConfig) -> None:
    found = count_layers(specs, "language_model.model.")
    if found and text_config.num_hidden_layers != found:
        raise ConversionError(
            f"the language model has {found} layers, but its config.json has num_hidden_layers "
            f"{text_config.num_hidden_layers}: its files do not belong together."
        )


def _shape(specs: Mapping[str, torch.Tensor], name: str, num_axes: int = 2) -> torch.Size:
    if name not in specs:
        raise ConversionError(f"the checkpoint has nothing for {name}: one of its files is incomplete.")
    shape = specs[name].shape
    if len(shape) != num_axes or 0 in shape:
        raise ConversionError(f"{name} must have {num_axes} non-empty axes, got shape {tuple(shape)}.")
    return shape


def count_layers(specs: Mapping[str, torch.Tensor], prefix: str) -> int:
    """
    Counts the layers that have tensors.

    Args:
        specs (`Mapping[str, torch.Tensor]`):
            Tensors by their new names.
        prefix (`str`):
            Prefix of the layers' names, before `layers.0.`.

    Raises:
        ConversionError: If the layers aren't numbered from 0 without gaps.
    """
    pattern = re.compile(re.escape(prefix) + r"layers\.([0-9]+)\.")
    found = {match[1] for name in specs if (match := pattern.match(name))}
    missing = [f"{prefix}layers.{number}" for number in range(len(found)) if str(number) not in found]
    if missing:  # a single high number would create a model of any size
        raise ConversionError(f"the checkpoint has {len(found)} layers, but not {missing[0]}: a file is incomplete.")
    return len(found)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Tiny models of every class that is trained, and a batch for them."""

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, ResNetConfig

from conftest import tiny_visual_config
from lavit_hf import (
    LaVITConfig,
    LaVITDetokenizerConfig,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
)


IMG, END, VOCAB = 40, 41, 66  # 40 text ids, two marks, 24 codes
LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def visual_config(encoder: str = "resnet", **kwargs):
    """A visual tokenizer whose encoder would move in train mode: by batch norms, or by dropout."""
    kwargs = {"merger_softmax": "masked", "selection": "threshold", "num_hidden_layers": 1, **kwargs}
    if encoder == "vit":
        return tiny_visual_config(**kwargs)
    if encoder == "clip":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = CLIPVisionConfig(image_size=32, patch_size=8, attention_dropout=0.5, **sizes)
        return tiny_visual_config(encoder_config=config, **kwargs)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 32], depths=[1, 1], layer_type="basic")
    config.out_features = ["stage2"]
    return tiny_visual_config(
        encoder_config=config, encoder_output="feature_maps", image_size=32, patch_size=8, feature_size=32, **kwargs
    )


def detokenizer_config() -> LaVITDetokenizerConfig:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    return LaVITDetokenizerConfig(num_patches=16, feature_size=32, codebook_dim=8, cross_attention_dims=(), **sizes)


def build(model_class: type, encoder: str = "resnet", **kwargs):
    """A tiny model, always with the same weights."""
    torch.manual_seed(0)
    if model_class is LaVITVisualTokenizer:
        return model_class(visual_config(encoder, **kwargs))
    if model_class is LaVITVisualTokenizerForPreTraining:
        pytest.importorskip("vector_quantize_pytorch")
        return model_class(visual_config(encoder, detokenizer_config=detokenizer_config(), **kwargs))
    text_config = LlamaConfig(vocab_size=VOCAB, initializer_range=0.2, pad_token_id=0, **LLAMA)
    return model_class(LaVITConfig(visual_tokenizer_config=visual_config(encoder), text_config=text_config, **kwargs))


def pictures(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def batch(num_images: int = 2) -> dict[str, torch.Tensor]:
    """A batch with an image in each of two rows of unlike length, and its labels as the processor makes them."""
    input_ids = torch.tensor([[0, 0, IMG, END, 5, 6], [7, 8, IMG, END, 9, 10]])
    labels = torch.tensor([[-100, -100, -100, -100, 5, 6], [-100, 8, -100, -100, 9, 10]])
    if num_images == 0:
        input_ids, labels = input_ids.masked_fill(input_ids >= IMG, 11), labels.masked_fill(input_ids >= IMG, 11)
    inputs = {"input_ids": input_ids, "attention_mask": (input_ids > 0).long(), "labels": labels}
    return inputs | ({"pixel_values": pictures(num_images)} if num_images else {})

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The patch that each code of a sentence is of, guessed from the sentence, which holds their order and no places."""

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask

from ..lavit.configuration_lavit import LaVITDetokenizerConfig
from ..lavit.modeling_layers import LaVITAttention, LaVITMLP


class PlaceLayer(nn.Module):
    """Pre-norm self-attention and MLP, each on a residual."""

    def __init__(self, config: LaVITDetokenizerConfig):
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = LaVITAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = LaVITMLP(config)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        hidden_states = hidden_states + self.self_attn(self.self_attn_norm(hidden_states), attention_mask)
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class PlaceHead(nn.Module):
    """
    Names the place of each code, and gives the embedding of the place that is expected.

    It is no part of the released models, which know a code's rank in its sentence alone.
    """

    def __init__(self, config: LaVITDetokenizerConfig):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(PlaceLayer(config) for _ in range(config.num_place_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_patches)
        self.embedding = nn.Embedding(config.num_patches, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch_size, longest, hidden_size)`):
                Rows of the codes, padded on the right.
            real (`torch.BoolTensor` of shape `(batch_size, longest)`):
                False for padding.

        Returns:
            `torch.Tensor` of shape `(batch_size, longest, num_patches)`: log-probabilities of the places, in fp32.
        """
        mask = create_bidirectional_mask(self.config, hidden_states, attention_mask=real)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        return self.classifier(self.norm(hidden_states)).float().log_softmax(dim=-1)

    def embed(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Expected embeddings `(batch_size, longest, hidden_size)` of places `(batch_size, longest, num_patches)`."""
        weight = self.embedding.weight
        return log_probs.exp().to(weight.dtype) @ weight


__all__ = ["PlaceHead"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Prediction of the patch that each code belongs to: image tokens encode the order of codes, not their places."""

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask

from ..lavit.configuration_lavit import LaVITDetokenizerConfig
from ..lavit.modeling_layers import LaVITAttention, LaVITMLP


# Stands for log(0), but is finite to keep gradients finite.
IMPOSSIBLE = -1e4


class PlaceLayer(nn.Module):
    """Pre-norm self-attention and MLP, each with a residual connection."""

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
    Predicts the place of each code, and computes the expected place embedding. Attention layers score the places;
    probabilities follow from the scores and from the order of the codes, as each code belongs to a later patch than
    the one before.

    The released models have no place head: they only know the rank of each code in its sequence.
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
                Hidden states of the codes, padded on the right.
            real (`torch.BoolTensor` of shape `(batch_size, longest)`):
                False for padding.

        Returns:
            `torch.Tensor` of shape `(batch_size, longest, num_patches)`: log-probabilities of the places, in fp32.
        """
        mask = create_bidirectional_mask(self.config, hidden_states, attention_mask=real)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        return ordered_log_probs(self.classifier(self.norm(hidden_states)).float(), real)

    def embed(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Expected embeddings `(batch_size, longest, hidden_size)` for `(batch_size, longest, num_patches)`."""
        # Call the module so that offloaded weights are loaded.
        embeddings = self.embedding(torch.arange(self.embedding.num_embeddings, device=log_probs.device))
        return log_probs.exp().to(embeddings.dtype) @ embeddings


def ordered_log_probs(scores: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """
    Computes probabilities of places that increase from code to code, with the forward-backward algorithm for a linear
    chain.

    Args:
        scores (`torch.Tensor` of shape `(batch_size, longest, num_patches)`):
            Score of every place for each code; `longest` is at most `num_patches`.
        real (`torch.BoolTensor` of shape `(batch_size, longest)`):
            False for padding, which follows the codes.

    Returns:
        `torch.Tensor` of shape `(batch_size, longest, num_patches)`: log-probabilities of the place of each code,
        given the scores of all codes of the image. Values for padding are meaningless.
    """
    scores = scores.log_softmax(dim=-1)
    before = [scores[:, 0]]  # forward sums, including the code's own score
    for step in range(1, scores.shape[1]):
        reached = scores[:, step] + _log_sum_below(before[-1])
        before.append(torch.where(real[:, step, None], reached, before[-1]))
    after = [torch.zeros_like(scores[:, 0])]  # backward sums
    for step in range(scores.shape[1] - 1, 0, -1):
        following = _log_sum_below((scores[:, step] + after[-1]).flip(-1)).flip(-1)
        after.append(torch.where(real[:, step, None], following, 0.0))
    return (torch.stack(before, dim=1) + torch.stack(after[::-1], dim=1)).log_softmax(dim=-1)


def _log_sum_below(scores: torch.Tensor) -> torch.Tensor:
    """Logarithm of the sum over all earlier places, for each place, `(batch_size, num_patches)`."""
    sums = scores[:, :-1].logcumsumexp(dim=-1)
    return nn.functional.pad(sums, (1, 0), value=IMPOSSIBLE)


__all__ = ["PlaceHead", "ordered_log_probs"]

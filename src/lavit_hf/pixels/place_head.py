# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The patch that each code of a sentence is of, guessed from the sentence, which holds their order and no places."""

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask

from ..lavit.configuration_lavit import LaVITDetokenizerConfig
from ..lavit.modeling_layers import LaVITAttention, LaVITMLP


# The logarithm of nothing, finite so that gradients are.
IMPOSSIBLE = -1e4


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
    Names the place of each code, and gives the embedding of the place that is expected. Attention layers score the
    places; probabilities follow from the scores and from the order of the sentence, in which every code is of a later
    patch than the one before.

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
        return ordered_log_probs(self.classifier(self.norm(hidden_states)).float(), real)

    def embed(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Expected embeddings `(batch_size, longest, hidden_size)` of places `(batch_size, longest, num_patches)`."""
        weight = self.embedding.weight
        return log_probs.exp().to(weight.dtype) @ weight


def ordered_log_probs(scores: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """
    Probabilities of places that increase from code to code: those of a linear chain, by its forward and backward sums.

    Args:
        scores (`torch.Tensor` of shape `(batch_size, longest, num_patches)`):
            For each code a score of every place; `longest` is at most `num_patches`.
        real (`torch.BoolTensor` of shape `(batch_size, longest)`):
            False for padding, which stands behind the codes.

    Returns:
        `torch.Tensor` of shape `(batch_size, longest, num_patches)`: for each code the log-probabilities of its place,
        given the scores of all codes of the image; those of padding mean nothing.
    """
    scores = scores.log_softmax(dim=-1)
    before = [scores[:, 0]]  # all that leads up to a code at a place, with the code's own score
    for step in range(1, scores.shape[1]):
        reached = scores[:, step] + _log_sum_below(before[-1])
        before.append(torch.where(real[:, step, None], reached, before[-1]))
    after = [torch.zeros_like(scores[:, 0])]  # all that may follow
    for step in range(scores.shape[1] - 1, 0, -1):
        following = _log_sum_below((scores[:, step] + after[-1]).flip(-1)).flip(-1)
        after.append(torch.where(real[:, step, None], following, 0.0))
    return (torch.stack(before, dim=1) + torch.stack(after[::-1], dim=1)).log_softmax(dim=-1)


def _log_sum_below(scores: torch.Tensor) -> torch.Tensor:
    """For each place the logarithm of the sum over the places before it, `(batch_size, num_patches)`."""
    sums = scores[:, :-1].logcumsumexp(dim=-1)
    return nn.functional.pad(sums, (1, 0), value=IMPOSSIBLE)


__all__ = ["PlaceHead", "ordered_log_probs"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Building blocks of several models: attention layers, and helpers for images with different numbers of rows."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


# Label that losses ignore.
IGNORE_INDEX = -100

# Added to the numerator and the denominator of the softmax in the released models.
SOFTMAX_LEAK = 1e-6
# Replaces a factor of zero when factors become scores: the weight of a masked key relative to one of equal score.
SMALLEST_FACTOR = 1e-30


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with the standard softmax; `attention_mask` is added to the scores."""
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def leaky_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Attention with the softmax of the released models, in which masked keys keep a small weight.

    `attention_mask` is a factor: 1 for visible keys and 0 for masked ones, broadcastable to
    `(batch_size, num_heads, query_length, key_length)`. The maximum is taken over all keys, including masked ones, so
    a masked key with a score far above the others pulls all weights toward the uniform average.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)).float() * scaling
    weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True)) * attention_mask
    leak = SOFTMAX_LEAK / key.shape[-2]
    weights = ((weights + leak) / (weights.sum(dim=-1, keepdim=True) + SOFTMAX_LEAK)).to(value.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def factors_to_scores(factors: torch.Tensor) -> torch.Tensor:
    """
    Converts an attention mask of factors (1 for visible keys, 0 for masked ones) to one that is added to the scores,
    for the implementations `"sdpa"` and `"eager"`. Masked keys also receive gradients, as if they were about to become
    visible. No row may be fully masked.
    """
    return (factors * (1 - SMALLEST_FACTOR) + SMALLEST_FACTOR).log()


class LaVITAttention(nn.Module):
    """Multi-head attention from one sequence to itself or to another."""

    def __init__(self, config: PreTrainedConfig, is_causal: bool = False):
        super().__init__()
        self.config = config
        self.is_causal = is_causal
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.query_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.key_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.value_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.output_projection = nn.Linear(config.hidden_size, config.hidden_size)

    def _attention_interface(self) -> Callable:
        if getattr(self.config, "merger_softmax", "masked") == "original":
            return leaky_attention_forward
        return ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch_size, query_length, hidden_size)`):
                Hidden states of the queries.
            attention_mask (`torch.Tensor`, *optional*):
                Mask in the format of the attention implementation.
            key_value_states (`torch.Tensor` of shape `(batch_size, key_length, hidden_size)`, *optional*):
                Hidden states of the keys and values. Self-attention if `None`.

        Returns:
            `torch.Tensor` of shape `(batch_size, query_length, hidden_size)`.
        """
        batch_size, query_length, hidden_size = hidden_states.shape
        sources = hidden_states if key_value_states is None else key_value_states
        query, key, value = (
            proj(rows).view(batch_size, -1, self.config.num_attention_heads, self.head_dim).transpose(1, 2)
            for proj, rows in (
                (self.query_projection, hidden_states),
                (self.key_projection, sources),
                (self.value_projection, sources),
            )
        )
        attention_output, _ = self._attention_interface()(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=self.scaling,
            dropout=self.attention_dropout if self.training else 0.0,
            **kwargs,
        )
        return self.output_projection(attention_output.reshape(batch_size, query_length, hidden_size))


class LaVITMLP(nn.Module):
    """Two linear layers with an activation in between."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.expansion = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.contraction = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.contraction(self.activation(self.expansion(hidden_states)))


class LaVITLayer(GradientCheckpointingLayer):
    """Pre-norm self-attention, cross-attention to a second sequence, and an MLP, each with a residual connection."""

    def __init__(self, config: PreTrainedConfig, is_causal: bool = False):
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = LaVITAttention(config, is_causal=is_causal)
        self.cross_attn_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.cross_attn = LaVITAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = LaVITMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`):
                The residual stream.
            encoder_hidden_states (`torch.Tensor` of shape `(batch_size, source_length, hidden_size)`):
                The inputs of cross-attention.
            attention_mask, encoder_attention_mask (`torch.Tensor`, *optional*):
                Masks of self- and cross-attention, in the format of the attention implementation.

        Returns:
            `torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`.
        """
        hidden_states = hidden_states + self.self_attn(self.self_attn_norm(hidden_states), attention_mask, **kwargs)
        hidden_states = hidden_states + self.cross_attn(
            self.cross_attn_norm(hidden_states), encoder_attention_mask, encoder_hidden_states, **kwargs
        )
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


def gather_rows(hidden_states: torch.Tensor, mask: torch.Tensor, longest: int) -> torch.Tensor:
    """
    Moves the rows selected by `mask` to the front, in order, and truncates the rest.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, num_rows, hidden_size)`):
            All rows.
        mask (`torch.BoolTensor` of shape `(batch_size, num_rows)`):
            The rows to select.
        longest (`int`):
            Number of rows to return per image. Those after the selected rows are padding.

    Returns:
        `torch.Tensor` of shape `(batch_size, longest, hidden_size)`.
    """
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    return hidden_states.gather(1, order[..., None].expand(-1, -1, hidden_states.shape[-1]))


def concat_rows(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Concatenates the first `counts` rows of each image: `(batch_size, longest, ...)` to `(sum(counts), ...)`."""
    return torch.cat([image[:count] for image, count in zip(rows, counts, strict=True)])


def split_by_image(rows: torch.Tensor, keep_mask: torch.Tensor) -> list[torch.Tensor]:
    """Splits the rows of all images, `(total_kept, ...)`, into a list of `(kept, ...)` per image."""
    return list(rows.split((keep_mask > 0.5).sum(dim=1).tolist()))


def pad_left(sequences: list[torch.Tensor], value: float) -> torch.Tensor:
    """Stacks tensors of shape `(length, ...)` to `(batch_size, longest, ...)`, left-padded with `value`."""
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value, padding_side="left")


def find_image_slots(input_ids: torch.Tensor, start_id: int, end_id: int) -> torch.Tensor:
    """Returns a mask `(batch_size, sequence_length)`, true for each `[IMG]` directly followed by `[/IMG]`."""
    opens = torch.zeros_like(input_ids, dtype=torch.bool)
    opens[:, :-1] = (input_ids[:, :-1] == start_id) & (input_ids[:, 1:] == end_id)
    return opens

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What merger, detokenizer and language model share: the block of attention layers, and rows that differ in number."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


# The label that a loss passes over.
IGNORE_INDEX = -100

# What the released models add to the numerator and the denominator of their softmax.
SOFTMAX_LEAK = 1e-6
# What stands for a factor of zero where factors become scores: a masked key's weight, beside a key of equal score.
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
    """Attention with the ordinary softmax; `attention_mask` is added to the scores."""
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
    Attention with the softmax of the released models, in which masked keys keep a little weight.

    `attention_mask` multiplies: 1 where a key may be seen, 0 where not, broadcastable to
    `(batch_size, num_heads, query_length, key_length)`. The maximum is taken over all keys, masked ones too, so a
    masked key with a score far above the others draws every weight towards the plain average.
    """
    scores = torch.matmul(query, key.transpose(-1, -2)).float() * scaling
    weights = torch.exp(scores - scores.amax(dim=-1, keepdim=True)) * attention_mask
    leak = SOFTMAX_LEAK / key.shape[-2]
    weights = ((weights + leak) / (weights.sum(dim=-1, keepdim=True) + SOFTMAX_LEAK)).to(value.dtype)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def factors_to_scores(factors: torch.Tensor) -> torch.Tensor:
    """
    An attention mask of factors (1 where a key may be seen, 0 where not) as one that is added to the scores, for the
    implementations `"sdpa"` and `"eager"`. The gradient of masked keys passes too, as if they were just about to be
    seen; no row may be masked as a whole.
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
                The queries' rows.
            attention_mask (`torch.Tensor`, *optional*):
                In the form that the attention implementation wants.
            key_value_states (`torch.Tensor` of shape `(batch_size, key_length, hidden_size)`, *optional*):
                The keys' rows. Self-attention where it is `None`.

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
    """Two linear layers with an activation between."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.expansion = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.contraction = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.contraction(self.activation(self.expansion(hidden_states)))


class LaVITLayer(GradientCheckpointingLayer):
    """Pre-norm self-attention, cross-attention to a second sequence, and MLP, each on a residual."""

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
                What cross-attention reads.
            attention_mask, encoder_attention_mask (`torch.Tensor`, *optional*):
                Masks of self- and cross-attention, in the form that the attention implementation wants.

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
    Moves the rows that `mask` names to the front, in order, and cuts off what stands behind.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, num_rows, hidden_size)`):
            All rows.
        mask (`torch.BoolTensor` of shape `(batch_size, num_rows)`):
            The rows to take.
        longest (`int`):
            How many rows to leave of each image. Those behind the rows to take are padding.

    Returns:
        `torch.Tensor` of shape `(batch_size, longest, hidden_size)`.
    """
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    return hidden_states.gather(1, order[..., None].expand(-1, -1, hidden_states.shape[-1]))


def concat_rows(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The first rows of each image, as many as `counts` says: `(batch_size, longest, ...)` to `(sum(counts), ...)`."""
    return torch.cat([image[:count] for image, count in zip(rows, counts, strict=True)])


def split_by_image(rows: torch.Tensor, keep_mask: torch.Tensor) -> list[torch.Tensor]:
    """Splits rows of all images, `(total_kept, ...)`, into a list with `(kept, ...)` for each."""
    return list(rows.split((keep_mask > 0.5).sum(dim=1).tolist()))


def pad_left(sequences: list[torch.Tensor], value: float) -> torch.Tensor:
    """Stacks tensors of shape `(length, ...)` to `(batch_size, longest, ...)`, padded with `value` on the left."""
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value, padding_side="left")


def find_image_slots(input_ids: torch.Tensor, start_id: int, end_id: int) -> torch.Tensor:
    """`(batch_size, sequence_length)`, true where an `[IMG]` opens a slot, which is one with `[/IMG]` right behind."""
    opens = torch.zeros_like(input_ids, dtype=torch.bool)
    opens[:, :-1] = (input_ids[:, :-1] == start_id) & (input_ids[:, 1:] == end_id)
    return opens

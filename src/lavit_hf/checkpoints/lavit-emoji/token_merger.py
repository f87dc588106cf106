# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The token merger: folds what the dropped patches hold into the kept ones (paper, section 3.1)."""

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask

from .configuration_lavit import LaVITVisualTokenizerConfig
from .transformer_layers import LaVITLayer


def gather_rows(hidden_states: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Moves the rows that `mask` names to the front, in order, and cuts off the rest.

    Args:
        hidden_states (`torch.Tensor` of shape `(batch_size, num_rows, hidden_size)`):
            All rows.
        mask (`torch.BoolTensor` of shape `(batch_size, num_rows)`):
            The rows to take.

    Returns:
        The rows, `(batch_size, longest, hidden_size)`, and which of them are real, `(batch_size, longest)`.
    """
    counts = mask.sum(dim=1)
    longest = int(counts.max())
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    rows = hidden_states.gather(1, order[..., None].expand(-1, -1, hidden_states.shape[-1]))
    return rows, torch.arange(longest, device=mask.device) < counts[:, None]


def split_by_image(rows: torch.Tensor, keep_mask: torch.Tensor) -> list[torch.Tensor]:
    """Splits rows of all images, `(total_kept, ...)`, into a list with `(kept, ...)` for each."""
    return list(rows.split((keep_mask > 0.5).sum(dim=1).tolist()))


class TokenMerger(nn.Module):
    """
    Blocks in which every kept patch reads the kept patches before it and all the dropped ones.

    With `merger_softmax="original"` all patches pass through the blocks, since in the released models' softmax even
    masked ones matter a little. With `"masked"` only the kept ones do; an image that drops nothing is then merged
    from all of its patches.
    """

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        self.config = config
        self.source_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(LaVITLayer(config, is_causal=True) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, features: torch.Tensor, keep_mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`):
                The encoder's features.
            keep_mask (`torch.Tensor` of shape `(batch_size, num_patches)`):
                Kept patches, boolean or the straight-through mask of [`TokenSelector`].

        Returns:
            `torch.Tensor` of shape `(total_kept, hidden_size)`: the kept rows of all images, one image after the
            other, in raster order.
        """
        kept = keep_mask > 0.5
        merge = self._merge_all if self.config.merger_softmax == "original" else self._merge_kept
        hidden_states, valid = merge(self.source_norm(features), features, keep_mask, kept)
        merged = self.norm(hidden_states[valid])
        if keep_mask.requires_grad:
            # One in value: through it the selector learns what a kept row is worth.
            merged = merged * keep_mask[kept][:, None].to(merged.dtype)
        return merged

    def _merge_all(self, sources, hidden_states, keep_mask, kept) -> tuple[torch.Tensor, torch.Tensor]:
        num_patches = kept.shape[1]
        keep = keep_mask.to(torch.float32)[:, None, None, :]
        causal = torch.ones(num_patches, num_patches, dtype=torch.float32, device=kept.device).tril()
        itself = torch.eye(num_patches, dtype=torch.bool, device=kept.device)
        self_mask = torch.where(itself, 1.0, causal * keep)
        for layer in self.layers:
            hidden_states = layer(hidden_states, sources, self_mask, 1.0 - keep)
        return hidden_states, kept

    def _merge_kept(self, sources, hidden_states, keep_mask, kept) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_states, valid = gather_rows(hidden_states, kept)
        sources, sources_valid = gather_rows(sources, ~kept | kept.all(dim=1, keepdim=True))
        # Padding stands behind the rows, where a causal mask hides it anyway.
        self_mask = create_causal_mask(self.config, hidden_states, attention_mask=None, cache=None)
        cross_mask = create_bidirectional_mask(
            self.config, hidden_states, attention_mask=sources_valid, encoder_hidden_states=sources
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, sources, self_mask, cross_mask)
        return hidden_states, valid

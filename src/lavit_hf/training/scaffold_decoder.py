# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The decoder that stands in for the detokenizer while the selector learns, and is taken away after it."""

import torch
from torch import nn
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask

from ..lavit.configuration_lavit import LaVITDetokenizerConfig
from ..lavit.modeling_layers import LaVITLayer, factors_to_scores
from ..pixels.grid_positions import grid_positions
from ..pixels.modeling_detokenizer import LaVITDetokenizerPreTrainedModel


class ScaffoldDecoder(LaVITDetokenizerPreTrainedModel):
    """
    Rebuilds features of all patches from merged rows whose places it knows. The detokenizer proper knows only their
    order, by which it rebuilds best from patches that are spread evenly: a selector must not learn that.
    """

    main_input_name = "merged"

    def __init__(self, config: LaVITDetokenizerConfig, merged_size: int, feature_size: int):
        super().__init__(config)
        shape = (config.num_patches, config.hidden_size)
        self.input_projection = nn.Linear(merged_size, config.hidden_size)
        self.place_embedding = nn.Parameter(torch.zeros(shape))
        self.query_embedding = nn.Parameter(torch.zeros(shape))
        self.layers = nn.ModuleList(LaVITLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feature_projection = nn.Linear(config.hidden_size, feature_size)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, ScaffoldDecoder):
            places = grid_positions(self.config.num_patches, self.config.hidden_size)
            init.copy_(module.place_embedding, places)
            init.copy_(module.query_embedding, places)

    def forward(self, merged: torch.Tensor, places: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            merged (`torch.Tensor` of shape `(batch_size, num_rows, merged_size)`):
                Merged rows.
            places (`torch.LongTensor` of shape `(batch_size, num_rows)`):
                The patch that each row is of.
            mask (`torch.Tensor` of shape `(batch_size, num_rows)`):
                Rows to read: booleans, or ones and zeros that take a gradient.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_patches, feature_size)`.
        """
        sources = self.input_projection(merged) + self.place_embedding[places]
        hidden_states = self.query_embedding.expand(len(sources), -1, -1)
        if mask.is_floating_point():
            mask = factors_to_scores(mask)[:, None, None].expand(-1, -1, hidden_states.shape[1], -1)
        else:
            mask = create_bidirectional_mask(
                self.config, hidden_states, attention_mask=mask, encoder_hidden_states=sources
            )
        for layer in self.layers:
            hidden_states = layer(hidden_states, sources, None, mask)
        return self.feature_projection(self.norm(hidden_states))

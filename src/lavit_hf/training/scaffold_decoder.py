# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The decoder that replaces the detokenizer while the selector is trained, and is discarded afterwards."""

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
    Rebuilds the features of all patches from merged rows with known places. The actual detokenizer only knows the
    order of rows, and therefore rebuilds best from evenly spread patches, which the selector must not learn.
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
        Rebuilds features from merged rows.

        Args:
            merged (`torch.Tensor` of shape `(batch_size, num_rows, merged_size)`):
                Merged rows.
            places (`torch.LongTensor` of shape `(batch_size, num_rows)`):
                The patch that each row belongs to.
            mask (`torch.Tensor` of shape `(batch_size, num_rows)`):
                Rows to use, as booleans, or as ones and zeros with a gradient.

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

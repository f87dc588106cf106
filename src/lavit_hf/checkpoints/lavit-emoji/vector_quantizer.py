# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The vector quantizer: a merged patch becomes one of a fixed number of codes (paper, section 3.1)."""

import torch
from torch import nn

from .configuration_lavit import LaVITVisualTokenizerConfig


class VectorQuantizer(nn.Module):
    """Projects rows to the codebook's width, normalises them and finds the nearest code."""

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        self.in_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.codebook_dim)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)

    def project(self, merged: torch.Tensor) -> torch.Tensor:
        """
        Args:
            merged (`torch.Tensor` of shape `(..., hidden_size)`):
                Merged rows.

        Returns:
            `torch.Tensor` of shape `(..., codebook_dim)`, of unit length.
        """
        return nn.functional.normalize(self.out_proj(torch.tanh(self.in_proj(merged))), dim=-1)

    def forward(self, merged: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            merged (`torch.Tensor` of shape `(..., hidden_size)`):
                Merged rows.

        Returns:
            The nearest rows of the codebook as they are stored, `(..., codebook_dim)`, with the gradient passed
            straight through to the projected rows, and their codes, `(...,)`.
        """
        projected = self.project(merged)
        codes = self.nearest(projected)
        quantized = self.codebook(codes)
        if projected.requires_grad:
            quantized = projected + (quantized - projected).detach()
        return quantized, codes

    def nearest(self, projected: torch.Tensor) -> torch.Tensor:
        """Codes `(...,)` of the rows nearest to `projected` `(..., codebook_dim)` by squared distance, in fp32."""
        with torch.autocast(projected.device.type, enabled=False):
            # Through the module, so that offloaded weights are fetched.
            rows = self.codebook(torch.arange(self.codebook.num_embeddings, device=projected.device)).float()
            # |z - e|^2 without |z|^2, which is the same for every code.
            distances = rows.square().sum(dim=-1) - 2 * projected.float() @ rows.T
        return distances.argmin(dim=-1)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The token selector: which patches of an image are worth a token (paper, section 3.1)."""

import math

import torch
from torch import nn
from torch.nn.functional import one_hot

from .configuration_lavit import LaVITVisualTokenizerConfig


KEEP, DROP = 0, 1  # the selector's two classes


class TokenSelector(nn.Module):
    """
    Scores every patch from its own features and the image's average, in fp32 whatever the model's dtype: a rounded
    score would keep other patches.
    """

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps, dtype=torch.float32)
        self.in_proj = nn.Linear(size, size, dtype=torch.float32)
        self.classifier = nn.Sequential(
            nn.Linear(size, size // 2, dtype=torch.float32),
            nn.GELU(),
            nn.Linear(size // 2, size // 4, dtype=torch.float32),
            nn.GELU(),
            nn.Linear(size // 4, 2, dtype=torch.float32),
        )

    def _apply(self, fn, recurse=True):
        # `model.to(torch.bfloat16)` moves the selector, but leaves its dtype.
        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    def forward(
        self,
        features: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`):
                The encoder's features.
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
                Patches to keep. By default the rule named in `config.selection` decides; never none.
            generator (`torch.Generator`, *optional*):
                Source of the draws under `"sample"`; torch's global one by default.

        Returns:
            The keep mask, `(batch_size, num_patches)`: boolean, or where gradients are recorded ones and zeros whose
            gradient goes straight through to the probabilities. And the log-probabilities of keeping and dropping,
            `(batch_size, num_patches, 2)`, in fp32.

        Raises:
            ValueError: If `keep_mask` has another shape or dtype or keeps no patch of an image, or the selection
                rule's settings cannot be.
        """
        log_probs = self.log_probs(features)
        if keep_mask is None:
            return self._select(log_probs, generator), log_probs
        _check_keep_mask(keep_mask, log_probs.shape[:2])
        return keep_mask, log_probs

    def log_probs(self, features: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of keeping and dropping, `(batch_size, num_patches, 2)`, in fp32."""
        with torch.autocast(features.device.type, enabled=False):
            hidden_states = nn.functional.gelu(self.in_proj(self.norm(features.float())))
            local, pooled = hidden_states.chunk(2, dim=-1)
            pooled = pooled.mean(dim=1, keepdim=True).expand_as(local)
            return self.classifier(torch.cat([local, pooled], dim=-1)).log_softmax(dim=-1)

    def _select(self, log_probs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        self.config.check_selection()
        if self.config.selection == "sample":
            log_probs = log_probs + _gumbel_noise(log_probs, generator)
        log_odds = log_probs[..., KEEP] - log_probs[..., DROP]
        kept = self._chosen(log_odds)
        best = one_hot(log_odds.argmax(dim=-1), log_odds.shape[-1]).bool()
        kept = kept | (best & ~kept.any(dim=-1, keepdim=True))
        if not log_odds.requires_grad:
            return kept
        probs = log_odds.sigmoid()
        return kept.to(probs.dtype) - probs.detach() + probs

    def _chosen(self, log_odds: torch.Tensor) -> torch.Tensor:
        if self.config.selection == "sample":
            return log_odds >= 0
        if self.config.selection == "threshold":
            return log_odds > math.log(self.config.keep_threshold / (1 - self.config.keep_threshold))
        count = self.config.keep_count
        if self.config.selection == "ratio":
            count = max(1, round(self.config.keep_ratio * log_odds.shape[-1]))
        return torch.zeros_like(log_odds, dtype=torch.bool).scatter(-1, log_odds.topk(count, dim=-1).indices, True)


def _gumbel_noise(log_probs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    # Drawn as torch's gumbel_softmax draws it, so one seed gives the released models' mask.
    noise = torch.empty_like(log_probs, memory_format=torch.legacy_contiguous_format)
    return -noise.exponential_(generator=generator).log()


def _check_keep_mask(keep_mask: torch.Tensor, expected: torch.Size) -> None:
    if keep_mask.shape != expected or keep_mask.dtype != torch.bool:
        raise ValueError(
            f"keep_mask must be boolean, one value for each patch, of the shape {tuple(expected)}; got "
            f"{keep_mask.dtype} of the shape {tuple(keep_mask.shape)}."
        )
    empty = (~keep_mask.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"keep_mask keeps no patch of image {empty[0]}: every image needs at least one.")

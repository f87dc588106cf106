# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
A variant of stage 2: images are generated as continuous embeddings, learned by regression, instead of as ids (paper,
section 4.3). To use it, set in the run file of examples/pretrain.py:

    model_class: examples/emoji/row_regression.py:LaVITForRowRegression

The embeddings are the rows of the codebook, so both variants learn from the same information.
"""

import torch
from torch import nn

from lavit_hf import LaVITForPreTraining


class LaVITForRowRegression(LaVITForPreTraining):
    """
    LaVIT that writes an image as rows of the codebook. Each row is predicted from the previous ones, with the squared
    distance as the loss; a separate head predicts the end of the image. Texts are learned as usual.
    """

    def __init__(self, config, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        width, hidden_size = config.visual_tokenizer_config.codebook_dim, config.text_config.hidden_size
        self.row_embedding = nn.Linear(width, hidden_size)
        self.row_head = nn.Linear(hidden_size, width)
        self.end_head = nn.Linear(hidden_size, 1)

    def _embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        embeds, codes = super()._embed(input_ids), input_ids - self.config.first_code_token_id
        rows = self.row_embedding(self._look_up(codes.clamp(min=0)).to(embeds))
        return torch.where((codes >= 0)[..., None], rows, embeds)

    def _compare(self, hidden_states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        is_end = targets == self.config.image_end_token_id
        is_row = targets >= self.config.first_code_token_id
        losses = super()._compare(hidden_states, targets)
        ends = nn.functional.binary_cross_entropy_with_logits(
            self.end_head(hidden_states)[:, 0].float(), is_end.float(), reduction="none"
        )
        rows = self._look_up((targets - self.config.first_code_token_id).clamp(min=0))
        distances = (self.row_head(hidden_states).float() - rows.float()).square().sum(dim=-1)
        return torch.where(is_row | is_end, ends + distances * is_row, losses)

    def _look_up(self, codes: torch.Tensor) -> torch.Tensor:
        return self.visual_tokenizer.quantizer.codebook(codes)

    @torch.no_grad()
    def generate_rows(
        self, input_ids: torch.LongTensor, attention_mask: torch.Tensor, max_rows: int
    ) -> list[torch.Tensor]:
        """
        Generates the rows of images.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Texts that end with `[IMG]`, padded on the left.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`):
                0 for padding.
            max_rows (`int`):
                Maximum number of rows per image.

        Returns:
            `list[torch.Tensor]`: For each image, its rows of unit length, `(kept, codebook_dim)`.
        """
        embeds, cache, rows, ends = self._embed(input_ids), None, [], []
        for _ in range(max_rows):
            positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
            outputs = self.model(
                inputs_embeds=embeds,
                attention_mask=attention_mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            last, cache = outputs.last_hidden_state[:, -1], outputs.past_key_values
            rows.append(nn.functional.normalize(self.row_head(last), dim=-1))
            ends.append(self.end_head(last)[:, 0] > 0)
            embeds = self.row_embedding(rows[-1])[:, None]
            attention_mask = nn.functional.pad(attention_mask, (0, 1), value=1)
        return self._cut(torch.stack(rows, dim=1), torch.stack(ends, dim=1))

    @staticmethod
    def _cut(rows: torch.Tensor, ends: torch.Tensor) -> list[torch.Tensor]:
        """The rows before the first end. Each image has at least one row, so an end at the first row is ignored."""
        ends[:, 0] = False
        ends = nn.functional.pad(ends, (0, 1), value=True)
        return [image[:count] for image, count in zip(rows, ends.int().argmax(dim=1).tolist())]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Several candidates generated from the same image tokens, of which the most faithful is kept."""

import torch
from torch import nn


class CandidatesMixin:
    """
    Adds the choice between candidates to a `DiffusionPipeline` with the components `language_model` and `processor`.
    """

    @torch.no_grad()
    def choose_candidates(self, pictures: torch.Tensor, features: torch.Tensor, num_candidates: int) -> torch.Tensor:
        """
        Chooses the most faithful candidate of each image. Candidates are encoded, and their features are compared with
        those that they were generated from. The measure is cosine similarity, as in the training of the tokenizer
        (paper, section 3.1).

        Args:
            pictures (`torch.Tensor` of shape `(num_pictures * num_candidates, 3, height, width)`):
                Candidates with values in 0..1, grouped by image.
            features (`torch.Tensor` of shape `(num_pictures * num_candidates, num_patches, feature_size)`):
                The rebuilt features that each candidate was generated from.
            num_candidates (`int`):
                Number of candidates per image.

        Returns:
            `torch.LongTensor` of shape `(num_pictures,)`: the row of each chosen candidate.

        Raises:
            ValueError: If there is no language model, whose visual tokenizer encodes the candidates.
        """
        read = self._read_pictures(pictures)
        likeness = nn.functional.cosine_similarity(read, features.to(read), dim=-1).mean(dim=1)
        best = likeness.unflatten(0, (-1, num_candidates)).argmax(dim=1)
        return best + num_candidates * torch.arange(len(best), device=best.device)

    def _read_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        """The vision encoder's features of images, `(num_pictures, num_patches, feature_size)`, in fp32."""
        model = self._awake_language_model("choose between candidates")
        images = self._as_output(pictures, "pil")
        pixel_values = self.processor.image_processor(images, return_tensors="pt").pixel_values
        features = model.visual_tokenizer.encode(pixel_values.to(self._execution_device, model.dtype))
        return features.last_hidden_state.float()


__all__ = ["CandidatesMixin"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Several paintings of the same image tokens, of which the most faithful is kept."""

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import nn

from .denoising import LaVITCondition


def repeat_condition(condition: LaVITCondition, times: int) -> LaVITCondition:
    """The condition of every picture several times, one after the other."""
    tensors = {field.name: getattr(condition, field.name) for field in fields(condition)}
    return LaVITCondition(
        **{
            name: None if tensor is None else tensor.repeat_interleave(times, dim=0)
            for name, tensor in tensors.items()
        }
    )


class CandidatesMixin:
    """
    Gives a `DiffusionPipeline` with the components `language_model`, `processor` and `detokenizer` and the stages
    around them the choice between paintings.
    """

    @torch.no_grad()
    def choose_candidates(self, latents: torch.Tensor, image_token_ids: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Chooses for each picture the painting that, read again, is most like what it was painted from: by the cosine of
        the visual encoder's features and those that the detokenizer rebuilds, which is what the tokenizer is trained
        by (paper, section 3.1).

        Args:
            latents (`torch.Tensor` of shape `(num_pictures * num_candidates, channels, height / 8, width / 8)`):
                Denoised latents, the candidates of a picture following each other.
            image_token_ids (`Sequence[torch.LongTensor]`, each of shape `(sequence_length,)`):
                What each picture is painted from.

        Returns:
            `torch.Tensor` of shape `(num_pictures, channels, height / 8, width / 8)`.

        Raises:
            ValueError: If there is no language model, whose visual tokenizer reads them.
        """
        rebuilt = self.rebuild_features(image_token_ids)
        read = self._read_latents(latents)
        num_candidates = len(latents) // len(rebuilt)
        rebuilt = rebuilt.to(read).repeat_interleave(num_candidates, dim=0)
        likeness = nn.functional.cosine_similarity(read, rebuilt, dim=-1).mean(dim=1)
        best = likeness.unflatten(0, (-1, num_candidates)).argmax(dim=1)
        candidates = latents.unflatten(0, (-1, num_candidates))
        return candidates[torch.arange(len(candidates), device=latents.device), best.to(latents.device)]

    def _read_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """The visual encoder's features of the pictures, `(num_pictures, num_patches, feature_size)`, in fp32."""
        model = self._awake_language_model("choose between candidates")
        pictures = self._as_output(self.decode_latents(latents), "pil")
        pixel_values = self.processor.image_processor(pictures, return_tensors="pt").pixel_values
        features = model.visual_tokenizer.encode(pixel_values.to(self._execution_device, model.dtype))
        return features.last_hidden_state.float()


__all__ = ["CandidatesMixin", "repeat_condition"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Stage 1, phase 1: trains the selector and the merger, without codes (paper, section 3.1).
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..lavit.configuration_lavit import LaVITVisualTokenizerConfig
from ..lavit.modeling_layers import gather_rows
from ..lavit.modeling_visual_tokenizer import (
    DROP,
    KEEP,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerPreTrainedModel,
    count_kept,
)
from .modeling_visual_tokenizer_pretraining import mean_over_processes, shuffle_patches
from .scaffold_decoder import ScaffoldDecoder
from .selection_gradient import antithetic_gradient, antithetic_masks, neighborhood_errors


@dataclass
class LaVITTokenSelectionForPreTrainingOutput(ModelOutput):
    r"""
    Output of [`LaVITTokenSelectionForPreTraining`].

    Args:
        loss (`torch.FloatTensor`):
            The weighted sum of the losses. With `selection_gradient="antithetic"`, it also carries the selector's
            gradient, without changing the value.
        reconstruction_loss (`torch.FloatTensor`):
            Mean of `energy * (1 - cos(features, reconstructed))` over the patches, where the energy is the mean square
            of a patch's channels. Uses random masks in training, and `config.selection` in evaluation.
        ratio_loss (`torch.FloatTensor`):
            Squared distance between `keep_ratio` and the mean probability of the batch.
        random_loss (`torch.FloatTensor`, *optional*):
            In evaluation, the reconstruction loss with the same number of random patches per image.
        keep_probs (`torch.FloatTensor` of shape `(batch_size, num_patches)`):
            Probabilities of keeping each patch.
        keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
            The kept patches; in training, those of the first sampled mask.
        complexity (`torch.FloatTensor` of shape `(batch_size,)`):
            Complexity of each image, as passed, or the mean energy of its patches.
    """

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    ratio_loss: torch.FloatTensor | None = None
    random_loss: torch.FloatTensor | None = None
    keep_probs: torch.FloatTensor | None = None
    keep_mask: torch.BoolTensor | None = None
    complexity: torch.FloatTensor | None = None


class LaVITTokenSelectionForPreTraining(LaVITVisualTokenizerPreTrainedModel):
    r"""
    The visual tokenizer's selector and merger with a scaffold decoder, which rebuilds the encoder's features from the
    merged rows. The encoder and the codebook are not trained. Saved models load as [`LaVITVisualTokenizer`], and as
    [`LaVITVisualTokenizerForPreTraining`], which trains the codes in the next phase.

    While `warming_up` is true, random masks replace those of the selector, because an untrained decoder can't tell
    which patches are worth keeping. For experiments, `places_by_rank` gives the decoder the rank of each row among the
    kept rows instead of its patch, which is what a detokenizer without a place head knows.

    Requires `config.detokenizer_config`, which sets the sizes of the scaffold decoder.

    Args:
        config ([`LaVITVisualTokenizerConfig`]):
            The configuration.
        encoder (`PreTrainedModel`, *optional*):
            The vision encoder. By default, it is built from the configuration.

    Raises:
        ValueError: If `config.detokenizer_config` is not set, `config.keep_ratio` does not lie between 0 and 1, or the
            encoder does not fit the configuration.

    Example:

    ```python
    >>> from lavit_hf import LaVITTokenSelectionForPreTraining

    >>> model = LaVITTokenSelectionForPreTraining.from_pretrained("stage-0")
    >>> model.train()(pixel_values).loss.backward()
    ```
    """

    needs_whole_batches = True  # for the ratio loss
    _keys_to_ignore_on_load_missing = [r"^scaffold\."]
    _keys_to_ignore_on_load_unexpected = [r"^detokenizer\.", r"^codebook_trainer\."]

    def __init__(self, config: LaVITVisualTokenizerConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config)
        if config.detokenizer_config is None:
            raise ValueError("the selection phase takes the scaffold decoder's sizes from detokenizer_config. Set it.")
        if not 0 < config.keep_ratio < 1:
            raise ValueError(f"to learn a selection, keep_ratio must lie between 0 and 1, got {config.keep_ratio}.")
        self.local_size = config.selector_feature_size or config.feature_size
        self.visual_tokenizer = LaVITVisualTokenizer(config, encoder)
        self.scaffold = ScaffoldDecoder(config.detokenizer_config, config.hidden_size, self.local_size)
        self.warming_up = self.places_by_rank = False
        self._freeze()
        self.post_init()

    def _freeze(self) -> None:
        self.visual_tokenizer.encoder.requires_grad_(False)
        self.visual_tokenizer.quantizer.requires_grad_(False)

    def train(self, mode: bool = True) -> "LaVITTokenSelectionForPreTraining":
        super().train(mode)
        self.visual_tokenizer.encoder.eval()
        self._freeze()  # again, because loading creates new parameters and ends with `eval()`
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.visual_tokenizer.get_input_embeddings()

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        complexity: torch.Tensor | None = None,
    ) -> LaVITTokenSelectionForPreTrainingOutput:
        r"""
        Computes the losses of the selector and merger.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`, *optional*):
                Normalized pixels from the image processor.
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`, *optional*):
                The encoder's precomputed features, instead of `pixel_values`.
            complexity (`torch.Tensor` of shape `(batch_size,)`, *optional*):
                Complexity of each image in any unit, such as the share of non-empty pixels. Returned in the output, so
                that the meter can compare it with the number of kept patches.

        Returns:
            [`LaVITTokenSelectionForPreTrainingOutput`].

        Raises:
            ValueError: If both or neither of `pixel_values` and `features` are given.
        """
        if (pixel_values is None) == (features is None):
            raise ValueError("pass either pixel_values or features, not both.")
        if features is None:
            with torch.no_grad():
                features = self.visual_tokenizer.encode(pixel_values).last_hidden_state
        features = self._local(features)
        if complexity is None:
            complexity = _energy(features[..., : self.local_size]).mean(dim=1)
        rebuild = self._learn if self.training else self._evaluate
        return self._weigh(rebuild(features, self.visual_tokenizer.embedding(features)), complexity)

    def reconstruct(self, features: torch.Tensor, keep_mask: torch.Tensor) -> torch.Tensor:
        """
        Rebuilds the features from the kept patches.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`):
                The encoder's features.
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
                The patches to keep, at least one per image.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_patches, local_size)`: the first channels of the features, which
            the selector reads.
        """
        return self._reconstruct(self.visual_tokenizer.embedding(self._local(features)), keep_mask)

    def _local(self, features: torch.Tensor) -> torch.Tensor:
        """Sets the channels after `local_size`, which depend on the whole image, to zero."""
        return nn.functional.pad(features[..., : self.local_size], (0, features.shape[-1] - self.local_size))

    def _learn(self, features: torch.Tensor, hidden_states: torch.Tensor) -> LaVITTokenSelectionForPreTrainingOutput:
        log_odds = self._log_odds(features, hidden_states)
        if self.warming_up:
            masks = _random_masks(log_odds, self.config.keep_ratio)[None]
        elif self.config.selection_gradient == "antithetic":
            masks = _never_empty(antithetic_masks(log_odds), log_odds)
        else:
            probs = log_odds.sigmoid()
            kept = _never_empty(torch.rand_like(probs) < probs, log_odds)
            masks = (kept + (probs - probs.detach()))[None]
        errors = self._errors(features, hidden_states, masks)
        loss = errors.mean()
        if len(masks) == 2:
            gradient = antithetic_gradient(log_odds, masks, neighborhood_errors(errors.detach()))
            guided = (gradient * log_odds).mean()
            loss = loss + (guided - guided.detach())
        return LaVITTokenSelectionForPreTrainingOutput(
            loss=loss,
            reconstruction_loss=errors.detach().mean(),
            keep_probs=log_odds.sigmoid(),
            keep_mask=masks[0] > 0.5,
        )

    def _evaluate(
        self, features: torch.Tensor, hidden_states: torch.Tensor
    ) -> LaVITTokenSelectionForPreTrainingOutput:
        # Own generator: evaluation must not affect training.
        generator = torch.Generator(features.device).manual_seed(0)
        with torch.no_grad():
            kept, log_probs = self.visual_tokenizer.select(features, hidden_states, generator=generator)
        random = shuffle_patches(kept, generator)
        loss, random_loss = self._errors(features, hidden_states, torch.stack([kept, random])).flatten(1).mean(dim=1)
        return LaVITTokenSelectionForPreTrainingOutput(
            loss=loss,
            reconstruction_loss=loss,
            random_loss=random_loss,
            keep_probs=log_probs[..., KEEP].exp(),
            keep_mask=kept,
        )

    def _weigh(self, outputs: LaVITTokenSelectionForPreTrainingOutput, complexity: torch.Tensor):
        share = outputs.keep_probs.mean()
        share = mean_over_processes(share) if self.training else share
        outputs.ratio_loss = (share - self.config.keep_ratio).square()
        outputs.loss = outputs.loss + self.config.ratio_loss_weight * outputs.ratio_loss
        outputs.keep_probs = outputs.keep_probs.detach()
        outputs.complexity = complexity
        return outputs

    def _log_odds(self, features: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        keep_mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        _, log_probs = self.visual_tokenizer.select(features, hidden_states, keep_mask)
        return log_probs[..., KEEP] - log_probs[..., DROP]

    def _errors(self, features: torch.Tensor, hidden_states: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Reconstruction error of each patch, weighted by its energy, `(num_masks, batch_size, num_patches)`."""
        repeated = hidden_states.repeat(len(masks), 1, 1)
        rebuilt = self._reconstruct(repeated, masks.flatten(end_dim=1)).float().unflatten(0, masks.shape[:2])
        targets = features[..., : self.local_size].float()
        return _energy(targets) * (1 - nn.functional.cosine_similarity(rebuilt, targets[None], dim=-1))

    def _reconstruct(self, hidden_states: torch.Tensor, keep_mask: torch.Tensor) -> torch.Tensor:
        merger = self.visual_tokenizer.merger
        places = self._places(keep_mask)
        if keep_mask.requires_grad:
            return self.scaffold(merger.merge_all(hidden_states, keep_mask), places, keep_mask)
        counts = count_kept(keep_mask)
        rows = merger(hidden_states, keep_mask, counts)
        merged = nn.utils.rnn.pad_sequence(rows.split(counts.numbers), batch_first=True)
        places = gather_rows(places[..., None], keep_mask, merged.shape[1])[..., 0]
        real = torch.arange(merged.shape[1], device=merged.device) < keep_mask.sum(dim=1, keepdim=True)
        return self.scaffold(merged, places, real)

    def _places(self, keep_mask: torch.Tensor) -> torch.Tensor:
        """Place of each patch's row for the scaffold decoder, `(batch_size, num_patches)`."""
        if self.places_by_rank:
            return ((keep_mask > 0.5).cumsum(dim=1) - 1).clamp(min=0)
        return torch.arange(keep_mask.shape[1], device=keep_mask.device).expand_as(keep_mask)


def _energy(features: torch.Tensor) -> torch.Tensor:
    return features.float().square().mean(dim=-1)


def _random_masks(log_odds: torch.Tensor, ratio: float) -> torch.Tensor:
    """Samples masks that keep every patch with the same probability, and at least one."""
    draws = torch.rand_like(log_odds, dtype=torch.float32)
    return (draws < ratio) | (draws == draws.amin(dim=-1, keepdim=True))


def _never_empty(masks: torch.Tensor, log_odds: torch.Tensor) -> torch.Tensor:
    """Adds the most probable patch to empty masks."""
    best = nn.functional.one_hot(log_odds.argmax(dim=-1), log_odds.shape[-1]).bool()
    return masks | (best & ~masks.any(dim=-1, keepdim=True))


__all__ = ["LaVITTokenSelectionForPreTraining", "LaVITTokenSelectionForPreTrainingOutput"]

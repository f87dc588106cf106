# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Stage 1: the visual tokenizer with the detokenizer and the losses that train them (paper, section 3.1)."""

import os
from dataclasses import dataclass

import torch
from torch import distributed, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..lavit.atomic_saving import saves_atomically
from ..lavit.configuration_lavit import LaVITVisualTokenizerConfig
from ..lavit.modeling_layers import split_by_image
from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer, LaVITVisualTokenizerPreTrainedModel
from ..pixels.modeling_detokenizer import LaVITDetokenizer
from .codebook_training import CodebookTrainer


# In a state dict, the codes that the visual tokenizer uses, and where they learn.
CODEBOOK = "visual_tokenizer.quantizer.codebook.weight"
LEARNED_CODEBOOK = "codebook_trainer.quantizer._codebook.embed"


@dataclass
class LaVITVisualTokenizerForPreTrainingOutput(ModelOutput):
    r"""
    Output of [`LaVITVisualTokenizerForPreTraining`].

    Args:
        loss (`torch.FloatTensor`):
            The weighted sum of the losses.
        reconstruction_loss (`torch.FloatTensor`):
            Mean of `1 - cos(features, reconstructed)` over the patches.
        ratio_loss (`torch.FloatTensor`):
            Squared distance between `keep_ratio` and the share of patches kept in the batch.
        image_ratio_loss (`torch.FloatTensor`):
            The same for each image, averaged.
        commitment_loss (`torch.FloatTensor`):
            Squared distance between projected rows and their codes.
        reconstructed (`torch.FloatTensor` of shape `(batch_size, num_patches, feature_size)`):
            The detokenizer's features.
        keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
            The kept patches.
        codes (`torch.LongTensor` of shape `(total_kept,)`):
            Codes of all images, one after the other.
    """

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    ratio_loss: torch.FloatTensor | None = None
    image_ratio_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    reconstructed: torch.FloatTensor | None = None
    keep_mask: torch.BoolTensor | None = None
    codes: torch.LongTensor | None = None


class LaVITVisualTokenizerForPreTraining(LaVITVisualTokenizerPreTrainedModel):
    r"""
    The visual tokenizer with the detokenizer that rebuilds the encoder's features from its codes (arXiv 2309.04669,
    section 3.1). All learn but the encoder, which is frozen; the codebook learns in `codebook_trainer`, by moving
    averages or by gradient as the configuration says. What it saves loads as [`LaVITVisualTokenizer`].

    Needs `config.detokenizer_config` and the extra `training`.

    Example:

    ```python
    >>> from lavit_hf import LaVITVisualTokenizerForPreTraining

    >>> model = LaVITVisualTokenizerForPreTraining.from_pretrained("stage-0")
    >>> model.train()(pixel_values).loss.backward()
    ```
    """

    _keys_to_ignore_on_load_missing = [r"^codebook_trainer\."]
    _keys_to_ignore_on_load_unexpected = [r"^scaffold\."]  # of the selection phase

    def __init__(self, config: LaVITVisualTokenizerConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config)
        if config.detokenizer_config is None:
            raise ValueError("stage 1 needs a feature decoder: set detokenizer_config.")
        self.visual_tokenizer = LaVITVisualTokenizer(config, encoder)
        self.detokenizer = LaVITDetokenizer(config.detokenizer_config)
        self.codebook_trainer = CodebookTrainer(config)
        self._freeze()
        self.post_init()

    def _init_weights(self, module):
        super()._init_weights(module)
        # Not at the trainer itself: transformers passes over modules that hold no tensors of their own.
        if module is self.codebook_trainer.quantizer:
            self.codebook_trainer.reset()

    def _freeze(self) -> None:
        # Learns in `codebook_trainer` and is copied from there.
        self.visual_tokenizer.quantizer.codebook.requires_grad_(False)

    def train(self, mode: bool = True) -> "LaVITVisualTokenizerForPreTraining":
        super().train(mode)
        self._freeze()  # again: loading makes new parameters, and ends in `eval()`
        return self

    def get_input_embeddings(self) -> nn.Module | None:
        return self.visual_tokenizer.get_input_embeddings()

    @saves_atomically
    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, torch.Tensor] | None = None,
        **kwargs,
    ) -> None:
        state_dict = dict(self.state_dict() if state_dict is None else state_dict)
        if self.codebook_trainer.has_started and CODEBOOK in state_dict:
            # The last forward copied the codes as they were before the optimizer's step.
            state_dict[CODEBOOK] = state_dict[LEARNED_CODEBOOK][0].clone()
        super().save_pretrained(save_directory, is_main_process, state_dict=state_dict, **kwargs)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LaVITVisualTokenizerForPreTrainingOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`, *optional*):
                Normalised pixels, as the image processor gives them.
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`, *optional*):
                The encoder's features, computed before; in place of `pixel_values`.
            generator (`torch.Generator`, *optional*):
                Source of the draws under `selection="sample"`; torch's global one by default.

        Returns:
            [`LaVITVisualTokenizerForPreTrainingOutput`].

        Raises:
            ValueError: If both or neither of `pixel_values` and `features` are given.
        """
        if (pixel_values is None) == (features is None):
            raise ValueError("pass either pixel_values or features, and not both.")
        if features is None:
            with torch.no_grad():
                features = self.visual_tokenizer.encode(pixel_values).last_hidden_state
        hidden_states = self.visual_tokenizer.embedding(features)
        keep_mask, _ = self.visual_tokenizer.select(features, hidden_states, generator=generator)
        merged = self.visual_tokenizer.merger(hidden_states, keep_mask)
        quantized, codes, commitment_loss = self.visual_tokenizer.quantizer(merged, self.codebook_trainer)
        if self.training:
            self._copy_codebook()
        commitment_loss = commitment_loss * (_share_of_rows(len(codes), merged.device) if self.training else 1.0)
        reconstructed = self.detokenizer(split_by_image(quantized, keep_mask)).features
        losses = {
            "reconstruction_loss": _cosine_distance(reconstructed, features),
            "commitment_loss": commitment_loss,
            **self._ratio_losses(keep_mask),
        }
        return LaVITVisualTokenizerForPreTrainingOutput(
            loss=self._weigh(losses),
            **losses,
            reconstructed=reconstructed,
            keep_mask=keep_mask > 0.5,
            codes=codes,
        )

    def _copy_codebook(self) -> None:
        weight, learned = self.visual_tokenizer.quantizer.codebook.weight, self.codebook_trainer.codebook.detach()
        if hasattr(weight, "device_mesh"):  # shared out by FSDP: each process has all codes, and keeps its part
            from torch.distributed.tensor import distribute_tensor

            learned = distribute_tensor(learned, weight.device_mesh, weight.placements, src_data_rank=None)
        weight.data.copy_(learned)

    def _ratio_losses(self, keep_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        kept = keep_mask.float().mean(dim=1)
        target = self.config.keep_ratio
        share = _mean_over_processes(kept.mean()) if self.training else kept.mean()
        return {
            "ratio_loss": (share - target).square(),
            "image_ratio_loss": (kept - target).square().mean(),
        }

    def _weigh(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        weights = {
            "ratio_loss": self.config.ratio_loss_weight,
            "image_ratio_loss": self.config.image_ratio_loss_weight,
            "commitment_loss": self.config.commitment_loss_weight,
        }
        return losses["reconstruction_loss"] + sum(weight * losses[name] for name, weight in weights.items())


def _mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """The mean over all processes, with the gradient of this one's value, which is averaged when gradients are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    mean = value.detach().clone()
    distributed.all_reduce(mean)
    return value + (mean / distributed.get_world_size() - value).detach()


def _share_of_rows(num_rows: int, device: torch.device) -> torch.Tensor | float:
    """
    What the mean over this process's rows must be weighed with, so that its mean over processes is the mean over all
    rows: their number differs, as patches are kept by content.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1.0
    total = torch.tensor(num_rows, dtype=torch.float32, device=device)
    distributed.all_reduce(total)
    return num_rows * distributed.get_world_size() / total


def _cosine_distance(reconstructed: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return (1 - nn.functional.cosine_similarity(reconstructed.float(), features.float(), dim=-1)).mean()


__all__ = ["LaVITVisualTokenizerForPreTraining", "LaVITVisualTokenizerForPreTrainingOutput"]

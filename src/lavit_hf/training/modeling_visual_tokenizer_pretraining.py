# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Stage 1: the visual tokenizer and the detokenizer with their losses (paper, section 3.1). Trains everything at once, or
serves as the second phase, after the selector.
"""

import os
from collections.abc import Callable, Iterable, Sequence
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
from .errors import TrainingError


# Names of the visual tokenizer's codebook and of the trained codebook in a state dict.
CODEBOOK = "visual_tokenizer.quantizer.codebook.weight"
LEARNED_CODEBOOK = "codebook_trainer.quantizer._codebook.embed"

SELECTION_PHASE = "LaVITTokenSelectionForPreTraining"  # saves the checkpoint that this phase starts from

# Overrides the selector in experiments. Takes the selector's boolean masks, the encoder's features of a batch, and an
# optional generator, and returns boolean masks.
PatchChoice = Callable[[torch.Tensor, torch.Tensor, torch.Generator | None], torch.Tensor]


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
            The same distance for each image, averaged.
        commitment_loss (`torch.FloatTensor`):
            Squared distance between projected rows and their codes.
        place_loss (`torch.FloatTensor`, *optional*):
            Cross-entropy of the place that the detokenizer's place head predicts for each code.
        place_accuracy (`torch.FloatTensor`, *optional*):
            Share of codes whose place is predicted correctly.
        probe_loss (`torch.FloatTensor`, *optional*):
            Squared distance between the outputs of `feature_probe` for the original and the rebuilt features.
        reconstructed (`torch.FloatTensor` of shape `(batch_size, num_patches, feature_size)`):
            The features rebuilt by the detokenizer.
        keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
            The kept patches.
        codes (`torch.LongTensor` of shape `(total_kept,)`, *optional*):
            Concatenated codes of all images; `None` while `warming_up`.
    """

    loss: torch.FloatTensor | None = None
    reconstruction_loss: torch.FloatTensor | None = None
    ratio_loss: torch.FloatTensor | None = None
    image_ratio_loss: torch.FloatTensor | None = None
    commitment_loss: torch.FloatTensor | None = None
    place_loss: torch.FloatTensor | None = None
    place_accuracy: torch.FloatTensor | None = None
    probe_loss: torch.FloatTensor | None = None
    reconstructed: torch.FloatTensor | None = None
    keep_mask: torch.BoolTensor | None = None
    codes: torch.LongTensor | None = None


class LaVITVisualTokenizerForPreTraining(LaVITVisualTokenizerPreTrainedModel):
    r"""
    The visual tokenizer with the detokenizer that rebuilds the encoder's features from its codes (arXiv 2309.04669,
    section 3.1). Everything is trained except for the encoder, which is frozen. The codebook is trained in
    `codebook_trainer`, by moving averages or by gradient, depending on the configuration. Saved models load as
    [`LaVITVisualTokenizer`].

    As the second phase, after [`LaVITTokenSelectionForPreTraining`], the model is trained with a frozen selection
    ([`freeze_selection`]) and a codebook initialized from the rows of many images ([`start_codebook`]). While
    `warming_up` is true, rows are not quantized, because a codebook that starts from untrained rows collapses.

    The cosine loss is insensitive to information in few directions of the features, such as colors. If `feature_probe`
    ([`add_feature_probe`]) is set, a fixed linear map must have the same outputs for the rebuilt as for the original
    features.

    Two more attributes are for experiments: `patch_choice`, a [`PatchChoice`], overrides the selector; `knows_places`
    gives the detokenizer the place of each code, instead of the place head's prediction.

    Requires `config.detokenizer_config` and the extra `training`.

    Args:
        config ([`LaVITVisualTokenizerConfig`]):
            The configuration.
        encoder (`PreTrainedModel`, *optional*):
            The vision encoder. By default, it is built from the configuration.

    Raises:
        ValueError: If `config.detokenizer_config` is not set, or the encoder does not fit the configuration.
        ImportError: If the extra `training` is not installed.

    Example:

    ```python
    >>> from lavit_hf import LaVITVisualTokenizerForPreTraining

    >>> model = LaVITVisualTokenizerForPreTraining.from_pretrained("stage-0")
    >>> model.train()(pixel_values).loss.backward()
    ```
    """

    needs_whole_batches = True  # for the ratio loss, and the moving averages and restarts of the codebook
    _keys_to_ignore_on_load_missing = [r"^codebook_trainer\."]
    _keys_to_ignore_on_load_unexpected = [r"^scaffold\."]  # from the selection phase

    def __init__(self, config: LaVITVisualTokenizerConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config)
        if config.detokenizer_config is None:
            raise ValueError("stage 1 needs a feature decoder. Set detokenizer_config.")
        self.visual_tokenizer = LaVITVisualTokenizer(config, encoder)
        self.detokenizer = LaVITDetokenizer(config.detokenizer_config)
        self.codebook_trainer = CodebookTrainer(config)
        self.warming_up = self.selection_is_frozen = self.knows_places = False
        self.patch_choice: PatchChoice | None = None
        self.register_buffer("feature_probe", None, persistent=False)
        self.probe_loss_weight = 0.0
        self._freeze()
        self.post_init()
        if SELECTION_PHASE in (config.architectures or ()):  # saved without a detokenizer
            self._keys_to_ignore_on_load_missing.add(r"^detokenizer\.")

    def _init_weights(self, module):
        super()._init_weights(module)
        # Checks the quantizer, since transformers skips modules without their own tensors, such as the trainer.
        if module is self.codebook_trainer.quantizer:
            self.codebook_trainer.reset()

    def _freeze(self) -> None:
        # Trained in `codebook_trainer` and copied from there.
        self.visual_tokenizer.quantizer.codebook.requires_grad_(False)
        if self.selection_is_frozen:
            self.visual_tokenizer.selector.requires_grad_(False)
            if self.config.selector_feature_size is None:  # else the selector has its own embedding
                self.visual_tokenizer.embedding.requires_grad_(False)

    def freeze_selection(self) -> None:
        """
        Freezes the selector and its input. If the input were trained, the probabilities would drift, and with them the
        number of kept patches.
        """
        self.selection_is_frozen = True
        self._freeze()

    def add_feature_probe(self, probe: torch.Tensor, loss_weight: float) -> None:
        """
        Adds a loss that keeps the outputs of a linear probe the same for rebuilt features.

        Args:
            probe (`torch.Tensor` of shape `(num_values, feature_size)`):
                Linear map applied to the features of each patch. It is neither trained nor saved.
            loss_weight (`float`):
                Weight of the probe loss.

        Raises:
            TrainingError: If the probe has the wrong width.
        """
        if probe.ndim != 2 or probe.shape[1] != self.config.feature_size:
            raise TrainingError(
                f"the feature probe must have shape (num_values, {self.config.feature_size}), got "
                f"{tuple(probe.shape)}. Fit it on the features of this tokenizer's encoder."
            )
        self.feature_probe = probe.to(self.device)
        self.probe_loss_weight = loss_weight

    @torch.no_grad()
    def start_codebook(self, batches: Iterable[dict[str, torch.Tensor]], num_rows: int) -> None:
        """
        Initializes the codebook with k-means on the rows of many images, since a single batch has too few for
        thousands of codes. Without this call, the first training batch initializes the codebook.

        Args:
            batches (`Iterable[dict[str, torch.Tensor]]`):
                Inputs of the model. Each process passes its own.
            num_rows (`int`):
                Number of kept patches after which to stop reading batches.

        Raises:
            TrainingError: If there are no batches.
        """
        rows, was_training = [], self.training
        self.eval()
        for batch in batches:
            _, _, merged = self._merge(**batch)
            rows.append(self.visual_tokenizer.quantizer.project(merged))
            if sum(map(len, rows)) >= num_rows:
                break
        self.train(was_training)
        if not rows:
            raise TrainingError("there are no images to initialize the codebook with.")
        self.codebook_trainer.start(torch.cat(rows))
        self._copy_codebook()

    def train(self, mode: bool = True) -> "LaVITVisualTokenizerForPreTraining":
        super().train(mode)
        self._freeze()  # again, because loading creates new parameters and ends with `eval()`
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
            # The last forward pass copied the codebook from before the optimizer step.
            state_dict[CODEBOOK] = state_dict[LEARNED_CODEBOOK][0].clone()
        super().save_pretrained(save_directory, is_main_process, state_dict=state_dict, **kwargs)

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LaVITVisualTokenizerForPreTrainingOutput:
        r"""
        Computes the losses of the visual tokenizer and the detokenizer.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`, *optional*):
                Normalized pixels from the image processor.
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`, *optional*):
                The encoder's precomputed features, instead of `pixel_values`.
            generator (`torch.Generator`, *optional*):
                Random number generator for `selection="sample"`. Defaults to torch's global one.

        Returns:
            [`LaVITVisualTokenizerForPreTrainingOutput`].

        Raises:
            ValueError: If both or neither of `pixel_values` and `features` are given.
        """
        features, keep_mask, merged = self._merge(pixel_values, features, generator)
        quantize = _leave_rows if self.warming_up else self.codebook_trainer
        quantized, codes, commitment_loss = self.visual_tokenizer.quantizer(merged, quantize)
        share = 1.0
        if self.training:
            self._copy_codebook()
            share = _share_of_rows(len(quantized), merged.device)
        places = _places(keep_mask)
        rebuilt = self.detokenizer(split_by_image(quantized, keep_mask), places=places if self.knows_places else None)
        losses = {
            "reconstruction_loss": _cosine_distance(rebuilt.features, features),
            "commitment_loss": commitment_loss * share,
            **self._ratio_losses(keep_mask),
        }
        if self.feature_probe is not None:
            losses["probe_loss"] = self._compare_probed(rebuilt.features, features)
        guesses = {}
        if rebuilt.place_log_probs is not None:
            place_loss, guesses["place_accuracy"] = _compare_places(rebuilt.place_log_probs, places)
            losses["place_loss"] = place_loss * share
        return LaVITVisualTokenizerForPreTrainingOutput(
            loss=self._weigh(losses),
            **losses,
            **guesses,
            reconstructed=rebuilt.features,
            keep_mask=keep_mask > 0.5,
            codes=codes,
        )

    def _merge(
        self,
        pixel_values: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the features, the keep mask, and the merged rows of kept patches, `(total_kept, hidden_size)`."""
        if (pixel_values is None) == (features is None):
            raise ValueError("pass either pixel_values or features, not both.")
        if features is None:
            with torch.no_grad():
                features = self.visual_tokenizer.encode(pixel_values).last_hidden_state
        hidden_states = self.visual_tokenizer.embedding(features)
        keep_mask, _ = self.visual_tokenizer.select(features, hidden_states, generator=generator)
        if self.selection_is_frozen:
            keep_mask = keep_mask.detach() > 0.5
        if self.patch_choice is not None:
            keep_mask = self.patch_choice(keep_mask > 0.5, features, generator)
        return features, keep_mask, self.visual_tokenizer.merger(hidden_states, keep_mask)

    def _compare_probed(self, rebuilt: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(rebuilt.float() - features.float(), self.feature_probe).square().mean()

    def _copy_codebook(self) -> None:
        weight, learned = self.visual_tokenizer.quantizer.codebook.weight, self.codebook_trainer.codebook.detach()
        if hasattr(weight, "device_mesh"):  # sharded by FSDP: each process has all codes and keeps its part
            from torch.distributed.tensor import distribute_tensor

            learned = distribute_tensor(learned, weight.device_mesh, weight.placements, src_data_rank=None)
        weight.data.copy_(learned)

    def _ratio_losses(self, keep_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        kept = keep_mask.float().mean(dim=1)
        target = self.config.keep_ratio
        share = mean_over_processes(kept.mean()) if self.training else kept.mean()
        return {
            "ratio_loss": (share - target).square(),
            "image_ratio_loss": (kept - target).square().mean(),
        }

    def _weigh(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        weights = {
            "ratio_loss": self.config.ratio_loss_weight,
            "image_ratio_loss": self.config.image_ratio_loss_weight,
            "commitment_loss": self.config.commitment_loss_weight,
            "place_loss": self.config.place_loss_weight,
            "probe_loss": self.probe_loss_weight,
        }
        return losses["reconstruction_loss"] + sum(
            weight * losses[name] for name, weight in weights.items() if name in losses
        )


def _leave_rows(projected: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
    """Replaces the codebook while warming up: returns the rows, no codes, and a commitment loss of 0."""
    return projected, None, projected.new_zeros(())


def shuffle_patches(masks: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """
    Creates masks that keep the same number of patches per image, chosen at random.

    Args:
        masks (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
            The kept patches.
        generator (`torch.Generator`, *optional*):
            Random number generator. Defaults to torch's global one.

    Returns:
        `torch.BoolTensor` of the same shape.
    """
    order = torch.rand(masks.shape, generator=generator, device=masks.device).argsort(dim=1)
    return masks.gather(1, order)


def _places(keep_mask: torch.Tensor) -> list[torch.Tensor]:
    """Returns the indices of the kept patches of each image, `(kept,)`."""
    return [image.nonzero()[:, 0] for image in keep_mask > 0.5]


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Returns the mean over all processes, with the gradient of this process's value, as gradients are averaged."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    mean = value.detach().clone()
    distributed.all_reduce(mean)
    return value + (mean / distributed.get_world_size() - value).detach()


def _share_of_rows(num_rows: int, device: torch.device) -> torch.Tensor | float:
    """
    Returns the weight of this process's mean over rows with which the mean over processes equals the mean over all
    rows. The number of rows differs between processes, since it depends on the images.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1.0
    total = torch.tensor(num_rows, dtype=torch.float32, device=device)
    distributed.all_reduce(total)
    return num_rows * distributed.get_world_size() / total


def _cosine_distance(reconstructed: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return (1 - nn.functional.cosine_similarity(reconstructed.float(), features.float(), dim=-1)).mean()


def _compare_places(log_probs: torch.Tensor, places: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the cross-entropy and accuracy of predicted places, averaged over the codes of all images."""
    guessed = torch.cat([image[: len(right)] for image, right in zip(log_probs, places)])
    right = torch.cat(list(places))
    return nn.functional.nll_loss(guessed, right), (guessed.argmax(dim=-1) == right).float().mean()


__all__ = ["LaVITVisualTokenizerForPreTraining", "LaVITVisualTokenizerForPreTrainingOutput"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
LaVIT: one causal language model that reads and writes text and images.

In order: filling slots with images, turning images into the embeddings that the language model reads, the base model,
and the model with an output head, which generates.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, Cache, PreTrainedModel
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple

from .adapters_lavit import take_out_frozen_adapters
from .atomic_saving import LOADING, name_of, saves_atomically
from .backbone_checks import apply_after_head, check_language_model, count_positions, takes_positions
from .cached_prompt import CachedPrompt, count_sequences
from .checkpoint_index import MAX_SHARD_SIZE, find_weights_folder, finish_saving
from .configuration_lavit import LaVITConfig, LaVITVisualTokenizerConfig, SelectionRule
from .generation_lavit import LaVITGenerationMixin, guide
from .input_checks import check_ids
from .keep_settings import KEEP_SETTINGS, KeepSettings
from .modeling_base import LaVITBaseModel
from .modeling_layers import IGNORE_INDEX, find_image_slots
from .modeling_visual_tokenizer import (
    LaVITVisualTokenizer,
    LaVITVisualTokenizerOutput,
    PatchSelection,
    TokenMerger,
    TokenSelector,
    count_kept,
)
from .own_pixel_decoder import attach_own_detokenizer, load_pixel_decoder
from .quantization_lavit import avoid_unfit_kernels, leave_images_unquantized
from .remote_code import ships_code
from .repo_names import SELECTOR_NAMES, rename_layers, rename_parts
from .token_sampling import Generators


# Maps weight names in a repo to names in memory. The repo layout predates `LaVITModel`.
register_checkpoint_conversion_mapping(
    LaVITConfig.model_type,
    [
        WeightRenaming(source_patterns=r"^visual_tokenizer\.", target_patterns=r"^model.visual_tokenizer."),
        WeightRenaming(source_patterns=r"^understanding\.", target_patterns=r"^model.understanding."),
        WeightRenaming(source_patterns=r"^language_model\.lm_head\.", target_patterns=r"^lm_head."),
        WeightRenaming(source_patterns=r"^language_model\.model\.", target_patterns=r"^model.language_model."),
        *rename_layers(r"understanding.merger."),
        *rename_parts("understanding.selector", SELECTOR_NAMES),
    ],
    overwrite=True,
)


@dataclass
class FilledSequence:
    """
    A left-padded batch of sequences with images filled into their slots.

    Args:
        inputs_embeds (`torch.Tensor` of shape `(batch_size, filled_length, hidden_size)`):
            Embeddings of text and images.
        attention_mask (`torch.LongTensor` of shape `(batch_size, filled_length)`):
            Zero for padding.
        token_positions (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
            Position of each input id in the filled sequence. Ids that aren't part of it, such as padding, have
            position `filled_length`.
    """

    inputs_embeds: torch.Tensor
    attention_mask: torch.Tensor
    token_positions: torch.Tensor

    def spread(self, values: torch.Tensor, fill_value: float) -> torch.Tensor:
        """
        Moves values of the input ids to the positions of these ids in the filled sequence.

        Args:
            values (`torch.Tensor` of shape `(batch_size, sequence_length)`):
                One value for each id.
            fill_value (`float`):
                Value for images and padding.

        Returns:
            `torch.Tensor` of shape `(batch_size, filled_length)`.
        """
        batch_size, filled_length = self.attention_mask.shape
        filled = values.new_full((batch_size, filled_length + 1), fill_value)
        return filled.scatter(1, self.token_positions, values)[:, :-1]

    def extend_mask(self, attention_mask: torch.Tensor | None, past_length: int) -> torch.Tensor:
        """
        Returns the mask of the cache and this sequence.

        Args:
            attention_mask (`torch.Tensor` of shape `(batch_size, past_length + ...)`, *optional*):
                Mask whose first columns cover the cache. By default, the cache contains no padding.
            past_length (`int`):
                Number of positions in the cache.

        Returns:
            `torch.LongTensor` of shape `(batch_size, past_length + filled_length)`.
        """
        mask = self.attention_mask
        if past_length == 0:
            return mask
        if attention_mask is None:
            return nn.functional.pad(mask, (past_length, 0), value=1)
        return torch.cat([attention_mask[:, :past_length].to(mask), mask], dim=1)

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """
        Gathers the rows of the input ids; the inverse of [`FilledSequence.spread`].

        Args:
            rows (`torch.Tensor` of shape `(batch_size, filled_length, hidden_size)`):
                One row for each position.

        Returns:
            `torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`. Ids without a position get the last
            row.
        """
        positions = self.token_positions.clamp(max=rows.shape[1] - 1)
        return rows.gather(1, positions[..., None].expand(-1, -1, rows.shape[-1]))


def check_image_slots(opens: torch.Tensor, num_images: int) -> None:
    """Raises a `ValueError` if the number of slots marked by `opens` differs from the number of images."""
    _check_number_of_slots(int(opens.sum()), num_images)


def _check_number_of_slots(num_slots: int, num_images: int) -> None:
    if num_slots != num_images:
        raise ValueError(
            f"the prompts have {num_slots} image slots, but {num_images} images were passed. Every image needs one "
            "slot, `[IMG][/IMG]`, as made by the processor."
        )


def fill_image_slots(
    opens: torch.Tensor,
    inputs_embeds: torch.Tensor,
    image_rows: list[torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    keep_marks: bool = True,
) -> FilledSequence:
    """
    Fills slots with images.

    Args:
        opens (`torch.BoolTensor` of shape `(batch_size, sequence_length)`):
            Output of [`find_image_slots`].
        inputs_embeds (`torch.Tensor` of shape `(batch_size, sequence_length, hidden_size)`):
            Embeddings of the ids, including the image marks.
        image_rows (`list[torch.Tensor]`, each of shape `(kept, hidden_size)`):
            Embeddings for each slot, in batch order.
        attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Zero for padding, on either side.
        keep_marks (`bool`, *optional*, defaults to `True`):
            Whether to keep the marks around each image.

    Returns:
        [`FilledSequence`].

    Raises:
        ValueError: If the numbers of slots and images differ.
    """
    real = torch.ones_like(opens) if attention_mask is None else attention_mask.bool()
    is_read = opens & real  # the padding may contain slots
    if not keep_marks:
        real = real & ~is_read & ~is_read.roll(1, dims=1)
    counts = torch.tensor([len(rows) for rows in image_rows], dtype=torch.long).to(opens.device, non_blocking=True)
    # There may be more slots than images, because that is only checked below.
    numbers = opens.flatten().cumsum(dim=0).view_as(opens).clamp(max=len(image_rows))
    inserted = nn.functional.pad(counts, (1, 0))[numbers] * is_read  # after `[IMG]`
    ends = (real + inserted).cumsum(dim=1)
    totals = ends[:, -1:]
    length, num_slots = torch.stack([totals.max(), opens.sum()]).tolist()  # the only device synchronization
    _check_number_of_slots(num_slots, len(image_rows))
    padding = length - totals
    positions = torch.where(real, padding + ends - inserted - 1, length)

    batch_size, _, hidden_size = inputs_embeds.shape
    # An extra column receives everything that has no position.
    filled = inputs_embeds.new_zeros(batch_size, length + 1, hidden_size)
    filled = filled.scatter(1, positions[..., None].expand_as(inputs_embeds), inputs_embeds)
    if image_rows:
        # Positions of all image embeddings in the batch, flattened to one sequence.
        first = padding + ends - inserted + (length + 1) * torch.arange(batch_size, device=opens.device)[:, None]
        slots = opens.flatten().to(torch.uint8).argsort(descending=True, stable=True)[: len(image_rows)]
        before = counts.cumsum(dim=0) - counts
        rows = torch.cat(image_rows).to(inputs_embeds)
        of_slot = torch.arange(len(counts), device=opens.device).repeat_interleave(counts, output_size=len(rows))
        places = torch.arange(len(rows), device=opens.device) + (first.flatten()[slots] - before)[of_slot]
        places = torch.where(is_read.flatten()[slots][of_slot], places, length)
        filled = filled.flatten(0, 1).index_copy(0, places, rows).view_as(filled)
    attention_mask = (torch.arange(length, device=opens.device) >= padding).long()
    return FilledSequence(filled[:, :-1], attention_mask, positions)


@dataclass
class LaVITModelOutputWithPast(BaseModelOutputWithPast):
    r"""
    Output of [`LaVITModel`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, sequence_length, hidden_size)`):
            The language model's last hidden states, one for each input id. Images in slots have none, so hidden
            states, ids and labels have the same length. `hidden_states` have the filled length.
        attention_mask (`torch.LongTensor` of shape `(batch_size, filled_length)`, *optional*):
            The mask of the filled sequence and the cache, if slots were filled with images.
        token_positions (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            The position of each input id in the filled sequence, if slots were filled with images.
        image_outputs (`BaseModelOutputWithPooling`, *optional*):
            Output of [`~LaVITModel.get_image_features`] for the images.
    """

    attention_mask: torch.LongTensor | None = None
    token_positions: torch.LongTensor | None = None
    image_outputs: BaseModelOutputWithPooling | None = None


@dataclass
class LaVITCausalLMOutputWithPast(CausalLMOutputWithPast):
    r"""
    Output of [`LaVITForCausalLM`].

    Args:
        loss (`torch.FloatTensor`, *optional*):
            Cross-entropy of the targets, if labels were passed.
        logits (`torch.FloatTensor` of shape `(batch_size, sequence_length, vocab_size)`):
            Scores of text and image ids, one row for each input id. Images in slots have none, so logits, ids and
            labels have the same length.
        attention_mask (`torch.LongTensor` of shape `(batch_size, filled_length)`, *optional*):
            The mask of the filled sequence, if slots were filled with images. Use it to continue from the cache.
        image_outputs (`BaseModelOutputWithPooling`, *optional*):
            Output of [`~LaVITForCausalLM.get_image_features`] for the images.
    """

    attention_mask: torch.LongTensor | None = None
    image_outputs: BaseModelOutputWithPooling | None = None


@dataclass
class LaVITImageFeaturesOutput(BaseModelOutputWithPooling):
    r"""
    Output of [`~LaVITModel.get_image_features`].

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(num_images, num_patches, feature_size)`):
            The encoder's features.
        pooler_output (`list[torch.FloatTensor]`, each of shape `(kept, text_hidden_size)`):
            The continuous embeddings of each image.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*):
            Those of the encoder, if requested.
        keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`):
            The kept patches.
        rebuild_errors, reaches_keep_error (`torch.Tensor` of shape `(num_images,)`, *optional*):
            With `keep_error`, as in [`LaVITVisualTokenizerOutput`].
    """

    keep_mask: torch.BoolTensor | None = None
    rebuild_errors: torch.FloatTensor | None = None
    reaches_keep_error: torch.BoolTensor | None = None


class LaVITUnderstanding(nn.Module):
    """
    Turns encoder features into the embeddings that the language model reads, which are continuous instead of quantized
    (paper, section 3.2). Uses the visual tokenizer's selector and merger unless it has its own.
    """

    def __init__(self, config: LaVITConfig):
        super().__init__()
        visual_config = config.visual_tokenizer_config
        self.selector = TokenSelector(visual_config) if config.understanding_selector else None
        self.merger = TokenMerger(visual_config) if config.understanding_merger else None
        self.projection = nn.Linear(visual_config.hidden_size, config.text_config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        choose_patches: Callable[..., PatchSelection],
        merge_patches: Callable[..., torch.Tensor],
        rule: SelectionRule,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
    ) -> tuple[list[torch.Tensor], PatchSelection]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(num_images, num_patches, hidden_size)`):
                The embedded encoder features.
            choose_patches (`Callable`):
                [`~LaVITVisualTokenizer.choose_patches`], bound to the features. It runs this branch's selector, or the
                visual tokenizer's if there is none. The module itself isn't passed, because accelerate's hooks would
                move it like a tensor, even if its weights are on disk.
            merge_patches (`Callable`):
                [`~LaVITVisualTokenizer.merge_patches`], called if this branch has no merger.
            rule ([`SelectionRule`]):
                How to decide which patches to keep.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for the selector's sampling, or a list with one per image.

        Returns:
            The embeddings of each image, `(kept, text_hidden_size)`, and a [`PatchSelection`].
        """
        selection = choose_patches(hidden_states, keep_mask, generator, rule, self.selector)
        counts = count_kept(selection.keep_mask, rule.num_kept)
        merge = merge_patches if self.merger is None else self.merger
        rows = self.projection(merge(hidden_states, selection.keep_mask, counts))
        return list(rows.split(counts.numbers)), selection


class LaVITPreTrainedModel(LaVITBaseModel):
    config: LaVITConfig
    config_class = LaVITConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    output_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # A device map can split between these modules, but not inside them, where masks index rows.
    _no_split_modules = ["TokenSelector", "TokenMerger", "VectorQuantizer"]
    _keep_in_fp32_modules_strict = ["selector"]

    def train(self, mode: bool = True) -> "LaVITPreTrainedModel":
        super().train(mode)
        if mode:
            take_out_frozen_adapters(self)
        return self

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, quantization_config=None, **kwargs):
        if quantization_config is not None:
            kwargs["quantization_config"] = leave_images_unquantized(quantization_config)
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        avoid_unfit_kernels(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    @saves_atomically
    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        max_shard_size: int | str = MAX_SHARD_SIZE,
        variant: str | None = None,
        **kwargs,
    ) -> None:
        # diffusers only passes on arguments that are in the signature.
        folder = Path(save_directory)
        weights_folder = find_weights_folder(folder)
        unusual = self._describe_unusual_save(**kwargs)
        if weights_folder != folder and unusual is not None:
            raise ValueError(
                f"{name_of(folder)} is a pipeline repo with its own language model, which cannot be replaced with "
                f"{unusual}. Choose another folder."
            )
        super().save_pretrained(
            weights_folder, is_main_process=is_main_process, max_shard_size=max_shard_size, variant=variant, **kwargs
        )
        if self.should_save_on_this_rank(is_main_process) and self._saves_weights(**kwargs):
            finish_saving(folder, variant)

    def _saves_weights(self, distributed_checkpoint: bool = False, **kwargs) -> bool:
        """Whether `save_pretrained` writes full weights, not an adapter or the state of a training run."""
        return not distributed_checkpoint and not getattr(self, "_hf_peft_config_loaded", False)

    def _describe_unusual_save(self, push_to_hub: bool = False, **kwargs) -> str | None:
        """Why the saved model can't be the language model of a pipeline; `None` if it can."""
        if not self._saves_weights(**kwargs):
            return "an adapter or the state of a training run"
        if not self.can_generate():
            return f"a {type(self).__name__} without an output head"
        return "a model that is pushed while it is saved" if push_to_hub else None


class LaVITModel(LaVITPreTrainedModel):
    r"""
    LaVIT without its output head (arXiv 2309.04669): a visual tokenizer that turns images into ids, an understanding
    branch that turns them into continuous embeddings, and a language model that reads both. The two branches share the
    encoder.

    In a prompt, an image is a slot, `[IMG][/IMG]`. Once the number of kept patches is known, the slot is filled with
    the image's continuous embeddings (in text mode) or its codes (in image mode).

    As in the paper, the visual tokenizer is frozen and stays in evaluation mode. Only the understanding branch and the
    language model are trained.

    Args:
        config ([`LaVITConfig`]):
            The configuration.
        encoder (`PreTrainedModel`, *optional*):
            The vision encoder. By default, it is built from the configuration.
        language_model (`PreTrainedModel`, *optional*):
            The language model without its head. By default, it is built from the configuration.
    """

    def __init__(
        self,
        config: LaVITConfig,
        encoder: PreTrainedModel | None = None,
        language_model: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        self.visual_tokenizer = LaVITVisualTokenizer(config.visual_tokenizer_config, encoder)
        self.understanding = LaVITUnderstanding(config)
        self.language_model = language_model or AutoModel.from_config(config.text_config)
        # Language models with positional biases, such as Bloom, don't take positions.
        self.takes_positions = takes_positions(self.language_model)
        self.post_init()
        self.visual_tokenizer.requires_grad_(False)

    def train(self, mode: bool = True) -> "LaVITModel":
        super().train(mode)
        # Loading creates new parameters, so freeze them again.
        self.visual_tokenizer.requires_grad_(False).eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Module:
        if new_num_tokens in (None, self.config.text_config.vocab_size):
            return self.get_input_embeddings()
        raise ValueError(
            f"the vocabulary of LaVIT cannot be resized to {new_num_tokens}: the image ids follow the "
            f"{self.config.text_vocab_size} text ids and must stay there. Resize the language model first, then call "
            "LaVITForCausalLM.from_backbones."
        )

    def get_image_tokens(
        self,
        pixel_values: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        **keep_settings: Unpack[KeepSettings],
    ) -> list[torch.Tensor]:
        """
        Turns images into token ids of the language model.

        Args:
            pixel_values (`torch.Tensor` of shape `(num_images, num_channels, image_size, image_size)`):
                Normalized pixels, as returned by the processor.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep. By default, the selector decides.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for the selector's sampling, or a list with one per image.
            keep_settings:
                `keep_threshold`, `keep_ratio` or `keep_error`, as in [`~LaVITVisualTokenizer.forward`].

        Returns:
            `list[torch.LongTensor]`: For each image, `[IMG]`, the ids of its codes and `[/IMG]`, of shape
            `(kept + 2,)`.
        """
        codes = self.tokenize_images(pixel_values, keep_mask, generator, **keep_settings).codes
        start, end = [self.config.image_start_token_id], [self.config.image_end_token_id]
        return [
            torch.cat([image.new_tensor(start), image + self.config.first_code_token_id, image.new_tensor(end)])
            for image in codes
        ]

    def tokenize_images(
        self,
        pixel_values: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        **keep_settings: Unpack[KeepSettings],
    ) -> LaVITVisualTokenizerOutput:
        """
        Runs the visual tokenizer on images. With `keep_error`, it uses the detokenizer of the model's repo.

        Args:
            pixel_values, keep_mask, generator, keep_settings:
                As in [`~LaVITModel.get_image_tokens`].

        Returns:
            [`LaVITVisualTokenizerOutput`].
        """
        self._selection_rule(keep_mask, keep_settings)
        return self.visual_tokenizer(pixel_values, keep_mask, generator, **keep_settings)

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        keep_threshold: float | None = None,
        keep_ratio: float | None = None,
        keep_error: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LaVITImageFeaturesOutput:
        """
        Turns images into the continuous embeddings that the language model reads.

        Args:
            pixel_values (`torch.Tensor` of shape `(num_images, num_channels, image_size, image_size)`):
                Normalized pixels, as returned by the processor.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep. By default, the selector decides.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for the selector's sampling, or a list with one per image.
            keep_threshold, keep_ratio, keep_error (`float`, *optional*):
                As in [`~LaVITVisualTokenizer.forward`]. Patches are ranked by the selector that is used for reading;
                the error is that of their codes.

        Returns:
            [`LaVITImageFeaturesOutput`]: `pooler_output` is the list of embeddings, each of shape
            `(kept, text_hidden_size)`.
        """
        settings = {"keep_threshold": keep_threshold, "keep_ratio": keep_ratio, "keep_error": keep_error}
        rule = self._selection_rule(keep_mask, settings)
        encoded = self.visual_tokenizer.encode(pixel_values, **kwargs)
        rows, selection = self._read(encoded.last_hidden_state, keep_mask, generator, rule)
        return LaVITImageFeaturesOutput(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=rows,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            keep_mask=selection.keep_mask > 0.5,
            rebuild_errors=selection.rebuild_errors,
            reaches_keep_error=selection.reaches_keep_error,
        )

    def read_features(
        self,
        features: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        **keep_settings: Unpack[KeepSettings],
    ) -> list[torch.Tensor]:
        """
        Turns encoder features into the embeddings that the language model reads.

        Args:
            features (`torch.Tensor` of shape `(num_images, num_patches, feature_size)`):
                Output of [`~LaVITVisualTokenizer.encode`].
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep, instead of those chosen by the selection rule.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for the selector's sampling, or a list with one per image.
            keep_settings:
                `keep_threshold`, `keep_ratio` or `keep_error`, as in [`~LaVITVisualTokenizer.forward`].

        Returns:
            `list[torch.Tensor]`: The embeddings of each image, `(kept, text_hidden_size)`.
        """
        return self._read(features, keep_mask, generator, self._selection_rule(keep_mask, keep_settings))[0]

    def _read(
        self, features: torch.Tensor, keep_mask: torch.Tensor | None, generator: Generators, rule: SelectionRule
    ) -> tuple[list[torch.Tensor], PatchSelection]:
        hidden_states = self.visual_tokenizer.embedding(features)
        choose_patches = partial(self.visual_tokenizer.choose_patches, features)
        merge_patches = self.visual_tokenizer.merge_patches
        return self.understanding(hidden_states, choose_patches, merge_patches, rule, keep_mask, generator)

    def _selection_rule(self, keep_mask: torch.Tensor | None, settings: KeepSettings) -> SelectionRule:
        """Returns the rule for a call. With `keep_error`, attaches the detokenizer of the model's repo if needed."""
        rule = self.visual_tokenizer.config.selection_rule(keep_mask, **settings)
        if rule.keep_error is not None:
            attach_own_detokenizer(self.visual_tokenizer, self)
        return rule

    @can_return_tuple
    @deprecate_kwarg("past_key_values", "5.40.0", new_name="cache")
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LaVITModelOutputWithPast:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Text and image ids. Each slot, `[IMG][/IMG]`, stands for the next image of `pixel_values`.
            pixel_values (`torch.FloatTensor`, *optional*):
                The images of all slots, in batch order, of shape
                `(num_images, num_channels, image_size, image_size)`. They are read as continuous embeddings.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                Zero for padding, on either side. With a cache, it can also cover the cached positions, as in
                transformers, or all ids so far. Whatever it doesn't cover is known from the call that created the
                cache.
            position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Positions. By default, padding isn't counted. Can't be combined with `pixel_values`, because image
                embeddings need positions too.
            cache (`Cache`, *optional*):
                Keys and values of earlier steps. `input_ids` then contains only the ids that follow.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, hidden_size)`, *optional*):
                Embeddings instead of `input_ids`.
            kwargs:
                `keep_mask`, `keep_threshold`, `keep_ratio` or `keep_error`, as in [`~LaVITModel.get_image_features`],
                and arguments of the language model.

        Returns:
            [`LaVITModelOutputWithPast`].

        Raises:
            ValueError: If the numbers of slots and images differ, if the mask fits neither the prompts nor the prompts
                and the cache, or if `position_ids` can't be used: with images, with a wrong length, or with a language
                model that doesn't take positions.
        """
        keep_settings = {name: kwargs.pop(name) for name in ("keep_mask", *KEEP_SETTINGS) if name in kwargs}
        prompts = inputs_embeds if input_ids is None else input_ids
        if prompts is None:
            raise ValueError("there is nothing to read. Pass input_ids, with a slot `[IMG][/IMG]` for each image.")
        if input_ids is not None:
            check_ids(input_ids, "input_ids")
        batch_size, length = prompts.shape[:2]
        self._check_positions(position_ids, length, pixel_values)
        past_length = self._past_length(cache, length, attention_mask, position_ids, pixel_values)
        past = CachedPrompt.of(cache, past_length)
        if past_length is not None and (attention_mask is None or getattr(attention_mask, "ndim", 0) == 2):
            attention_mask = past.complete_mask(
                attention_mask, past_length, batch_size, length, count_sequences(cache)
            )
        image_outputs = filled = None
        if pixel_values is None:
            self.check_no_slots(input_ids)
            if input_ids is not None and past_length == 0 and (self.training or self.is_sharded):
                nothing = self.read_nothing()
                input_ids, inputs_embeds = None, self.get_input_embeddings()(input_ids) + nothing
        else:
            image_outputs = self.get_image_features(pixel_values, return_dict=True, **keep_settings)
            new_mask = None if attention_mask is None else attention_mask[:, past_length:]
            filled = self.fill_slots(image_outputs.pooler_output, input_ids, inputs_embeds, new_mask)
            input_ids, inputs_embeds = None, filled.inputs_embeds
            attention_mask = filled.extend_mask(attention_mask, past_length)
        if position_ids is None and getattr(attention_mask, "ndim", 0) == 2:
            new_length = length if filled is None else filled.attention_mask.shape[1]
            position_ids = count_positions(attention_mask)[:, -new_length:]
            position_ids = position_ids if self.takes_positions else None
        if position_ids is not None:
            kwargs["position_ids"] = position_ids
        outputs = self.language_model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            cache=cache,
            return_dict=True,
            **kwargs,
        )
        is_prompt = past_length == 0 or (past_length is not None and length > 1)
        if outputs.cache is not None and is_prompt and not torch.compiler.is_compiling():
            num_images = 0 if filled is None else len(image_outputs.pooler_output)
            num_inserted = 0 if filled is None else filled.attention_mask.shape[1] - length
            total = past_length + length + num_inserted
            outputs.cache.cached_prompt = past.followed_by(total, num_inserted, num_images, batch_size, attention_mask)
        last_hidden_state = outputs.last_hidden_state
        return LaVITModelOutputWithPast(
            last_hidden_state=last_hidden_state if filled is None else filled.gather(last_hidden_state),
            cache=outputs.cache,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            attention_mask=None if filled is None else attention_mask,
            token_positions=None if filled is None else filled.token_positions,
            image_outputs=image_outputs,
        )

    @property
    def is_sharded(self) -> bool:
        """Whether weights that process images are sharded across processes, as in FSDP."""
        parameters = (*self.visual_tokenizer.parameters(), *self.understanding.parameters())
        return any(hasattr(parameter, "device_mesh") for parameter in parameters)

    def read_nothing(self) -> torch.Tensor | float:
        """
        Returns zero for a batch without images, with a gradient for the understanding branch, because processes that
        train together must compute gradients for the same weights. If the weights are sharded, all processes must also
        gather them at the same points, so a blank image is read.
        """
        if not self.is_sharded:
            trained = [parameter for parameter in self.understanding.parameters() if parameter.requires_grad]
            return sum(0.0 * parameter.sum() for parameter in trained)
        config = self.config.visual_tokenizer_config
        channels = getattr(config.encoder_config, "num_channels", 3)
        blank = torch.zeros(1, channels, config.image_size, config.image_size, device=self.device)
        return 0.0 * self.get_image_features(blank, return_dict=True).pooler_output[0].sum()

    def _check_positions(
        self, position_ids: torch.LongTensor | None, length: int, pixel_values: torch.Tensor | None
    ) -> None:
        """Raises a `ValueError` if the caller's positions can't be used."""
        if position_ids is None:
            return
        if pixel_values is not None:
            raise ValueError(
                "position_ids cannot be combined with pixel_values, whose rows need positions too. Leave them out, "
                "or fill the slots first and pass inputs_embeds."
            )
        if not self.takes_positions:
            raise ValueError(
                f"{type(self.language_model).__name__} uses no positions, only distances. Leave position_ids out."
            )
        if position_ids.shape[-1] != length:
            raise ValueError(
                f"position_ids has shape {tuple(position_ids.shape)} for {length} ids. Pass one for each id."
            )

    def _past_length(
        self,
        cache: Cache | None,
        length: int,
        attention_mask: torch.Tensor | None,
        position_ids: torch.LongTensor | None,
        pixel_values: torch.Tensor | None,
    ) -> int | None:
        """Number of positions in the cache; `None` if it isn't needed and would require a device synchronization."""
        past_length = 0 if cache is None else cache.get_seq_length()
        if not torch.is_tensor(past_length):
            return past_length
        is_decoding_step = length == 1 and position_ids is not None
        is_needed = attention_mask is not None or pixel_values is not None or hasattr(cache, "cached_prompt")
        return int(past_length) if is_needed and not is_decoding_step else None

    def check_no_slots(self, input_ids: torch.LongTensor | None) -> None:
        """Raises a `ValueError` if `input_ids`, of shape `(batch_size, sequence_length)`, contain an unfilled slot."""
        # A decoding step of one token can't contain a slot, and must not wait for the device.
        if input_ids is not None and input_ids.shape[1] > 1 and not torch.compiler.is_compiling():
            check_image_slots(self._find_slots(input_ids), num_images=0)

    def _find_slots(self, input_ids: torch.LongTensor) -> torch.Tensor:
        return find_image_slots(input_ids, self.config.image_start_token_id, self.config.image_end_token_id)

    def find_marks(
        self, input_ids: torch.LongTensor | None, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns a mask `(batch_size, sequence_length)`, true for both marks of every slot in ids or embeddings."""
        opens = self._find_slots(self.recover_marks(inputs_embeds) if input_ids is None else input_ids)
        return opens | opens.roll(1, dims=1)

    def fill_slots(
        self,
        image_rows: list[torch.Tensor],
        input_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        keep_marks: bool = True,
    ) -> FilledSequence:
        """
        Fills the slots of prompts with images; see [`fill_image_slots`]. Prompts are ids, embeddings or both.

        Raises:
            ValueError: If the numbers of slots and images differ, or if the mask and the prompts differ in length.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("pixel_values need input_ids with a slot `[IMG][/IMG]` for each image.")
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if attention_mask is not None and attention_mask.shape != inputs_embeds.shape[:2]:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)} for prompts of shape "
                f"{tuple(inputs_embeds.shape[:2])}. It must cover the prompts, or the cache and the prompts."
            )
        opens = self._find_slots(self.recover_marks(inputs_embeds) if input_ids is None else input_ids)
        return fill_image_slots(opens, inputs_embeds, image_rows, attention_mask, keep_marks)

    def recover_marks(self, inputs_embeds: torch.Tensor) -> torch.LongTensor:
        """Recognizes image marks by their embeddings: returns ids `(batch_size, sequence_length)`, -1 elsewhere."""
        marks = (self.config.image_start_token_id, self.config.image_end_token_id)
        ids = torch.full(inputs_embeds.shape[:2], -1, device=inputs_embeds.device)
        for mark in marks:
            embedding = self.get_input_embeddings()(torch.tensor(mark, device=inputs_embeds.device))
            ids[(inputs_embeds == embedding).all(dim=-1)] = mark
        return ids


@ships_code
class LaVITForCausalLM(LaVITPreTrainedModel, LaVITGenerationMixin):
    r"""
    LaVIT (arXiv 2309.04669): [`LaVITModel`] with an output head over text and image ids. It reads and writes images.

    In train mode, the understanding branch, the language model and its head receive gradients, while the visual
    tokenizer is frozen. LoRA target modules such as `["q_proj", "v_proj"]` match only layers of the language model,
    unless the vision encoder uses the same names. In that case, and with `"all-linear"`, adapters in the visual
    tokenizer are removed when training starts. To leave them out from the start, pass
    `exclude_modules=r".*visual_tokenizer.*"`.

    Args:
        config ([`LaVITConfig`]):
            The configuration.
        encoder (`PreTrainedModel`, *optional*):
            The vision encoder. By default, it is built from the configuration.
        language_model (`PreTrainedModel`, *optional*):
            A causal language model of transformers with the configuration's vocabulary, which is split into its base
            model and its head. By default, it is built from the configuration.

    Raises:
        ValueError: If the language model has no causal mask, a different vocabulary, a head that is more than a linear
            layer, or a head that its configuration ties but that can't be tied.

    Example:

    ```python
    >>> from lavit_hf import LaVITForCausalLM, LaVITProcessor

    >>> processor = LaVITProcessor.from_pretrained(path)
    >>> model = LaVITForCausalLM.from_pretrained(path)
    >>> inputs = processor(images=image, return_tensors="pt")
    >>> processor.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    ```
    """

    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(
        self,
        config: LaVITConfig,
        encoder: PreTrainedModel | None = None,
        language_model: PreTrainedModel | None = None,
    ):
        super().__init__(config)
        causal_model = language_model or AutoModelForCausalLM.from_config(config.text_config)
        check_language_model(causal_model, config.text_config.vocab_size)
        self.model = LaVITModel(config, encoder, causal_model.base_model)
        self.lm_head = causal_model.get_output_embeddings()
        self._tied_weights_keys = self._find_tied_weights(causal_model)
        self._pixel_decoder = None
        self.post_init()

    @classmethod
    def from_backbones(
        cls,
        vision_model: str | os.PathLike | PreTrainedModel,
        text_model: str | os.PathLike | PreTrainedModel,
        understanding_selector: bool = False,
        **visual_tokenizer_kwargs,
    ) -> "LaVITForCausalLM":
        """
        Creates a new LaVIT from a pretrained vision encoder and a pretrained causal language model. Their weights are
        kept. The embeddings are extended by the image ids, and the new ones are sampled around the mean of the old
        ones. Model objects aren't copied: they become parts of the new model and change with it. The dtype is the
        language model's.

        Args:
            vision_model (`str`, `os.PathLike` or `PreTrainedModel`):
                A vision model, or the path or Hub id of one, loaded with `AutoModel`.
            text_model (`str`, `os.PathLike` or `PreTrainedModel`):
                A causal language model, or the path or Hub id of one, loaded with `AutoModelForCausalLM`.
            understanding_selector (`bool`, *optional*, defaults to `False`):
                See [`LaVITConfig`].
            visual_tokenizer_kwargs:
                Other arguments of [`LaVITVisualTokenizerConfig`].

        Raises:
            ValueError: If one of the models can't be part of a LaVIT; see [`LaVITForCausalLM`].
        """
        if isinstance(vision_model, str | os.PathLike):
            vision_model = AutoModel.from_pretrained(vision_model)
        if isinstance(text_model, str | os.PathLike):
            text_model = AutoModelForCausalLM.from_pretrained(text_model)
        check_language_model(text_model)  # before it is changed
        visual_config = LaVITVisualTokenizerConfig(encoder_config=vision_model.config, **visual_tokenizer_kwargs)
        text_vocab_size = text_model.config.vocab_size
        text_model.resize_token_embeddings(text_vocab_size + visual_config.codebook_size + 2)
        try:
            config = LaVITConfig(
                visual_tokenizer_config=visual_config,
                text_config=text_model.config,
                understanding_selector=understanding_selector,
            )
            model = cls(config, encoder=vision_model, language_model=text_model)
        except Exception:
            text_model.resize_token_embeddings(text_vocab_size)  # the caller may try again with it
            raise
        model._bring_images_to(text_model.dtype)
        model.generation_config = copy.deepcopy(text_model.generation_config)
        return model

    def _bring_images_to(self, dtype: torch.dtype) -> None:
        """Casts the weights that process images. `to(dtype)` would also round the frequencies of positions."""
        for part in (self.visual_tokenizer, self.understanding):
            part._apply(lambda tensor: tensor.to(dtype) if isinstance(tensor, nn.Parameter) else tensor)

    @property
    def visual_tokenizer(self) -> LaVITVisualTokenizer:
        """The visual tokenizer, which turns images into codes."""
        return self.model.visual_tokenizer

    @property
    def understanding(self) -> LaVITUnderstanding:
        """The understanding branch, which turns images into continuous embeddings."""
        return self.model.understanding

    @property
    def language_model(self) -> PreTrainedModel:
        """The language model without its head."""
        return self.model.language_model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Module:
        return self.model.resize_token_embeddings(*args, **kwargs)

    def get_image_tokens(self, pixel_values: torch.Tensor, *args, **kwargs) -> list[torch.Tensor]:
        """See [`~LaVITModel.get_image_tokens`]."""
        return self.model.get_image_tokens(pixel_values, *args, **kwargs)

    def tokenize_images(self, pixel_values: torch.Tensor, *args, **kwargs) -> LaVITVisualTokenizerOutput:
        """See [`~LaVITModel.tokenize_images`]."""
        return self.model.tokenize_images(pixel_values, *args, **kwargs)

    def get_image_features(self, pixel_values: torch.Tensor, *args, **kwargs) -> LaVITImageFeaturesOutput:
        """See [`~LaVITModel.get_image_features`]."""
        return self.model.get_image_features(pixel_values, *args, **kwargs)

    def read_features(self, features: torch.Tensor, *args, **kwargs) -> list[torch.Tensor]:
        """See [`~LaVITModel.read_features`]."""
        return self.model.read_features(features, *args, **kwargs)

    @can_return_tuple
    @deprecate_kwarg("past_key_values", "5.40.0", new_name="cache")
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        guidance: float | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LaVITCausalLMOutputWithPast:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Text and image ids. Each slot, `[IMG][/IMG]`, stands for the next image of `pixel_values`.
            pixel_values (`torch.FloatTensor`, *optional*):
                The images of all slots, in batch order, of shape
                `(num_images, num_channels, image_size, image_size)`. They are read as continuous embeddings.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                Zero for padding, on either side. With a cache, it can also cover the cached positions, as in
                transformers.
            position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Positions. By default, padding isn't counted. Can't be combined with `pixel_values`.
            cache (`Cache`, *optional*):
                Keys and values of earlier steps.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, hidden_size)`, *optional*):
                Embeddings instead of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Targets for text and image ids, aligned with `input_ids`. Labels of -100 are ignored. Images in slots,
                their marks and the first id of each sequence are never targets.
            logits_to_keep (`int` or `torch.Tensor`, *optional*, defaults to 0):
                Number of positions at the end to compute logits for, or their indices. Zero means all.
            guidance (`float`, *optional*):
                Guidance scale for a doubled batch, whose second half is the unconditional branch. The returned logits
                are guided and have half the batch size.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                Number of labels in a batch that is split over several calls or processes. As in `Trainer`, it counts
                all labels other than -100, except the first of each sequence. The loss is the mean over all targets
                of the batch if each of these labels is a target, which is the case for labels from the processor.
            kwargs:
                `shift_labels`, targets that are already shifted, instead of `labels`, and arguments of
                [`~LaVITModel.forward`].

        Returns:
            [`LaVITCausalLMOutputWithPast`].

        Raises:
            ValueError: As in [`~LaVITModel.forward`], or if there isn't exactly one label for each id.
        """
        shift_labels = kwargs.pop("shift_labels", None)  # not in the signature, or `Trainer` would expect both
        outputs = self.model(
            input_ids, pixel_values, attention_mask, position_ids, cache, inputs_embeds, return_dict=True, **kwargs
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.compute_logits(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None or shift_labels is not None:
            _check_labels(labels if shift_labels is None else shift_labels, outputs.last_hidden_state)
            following = _shift(labels) if shift_labels is None else shift_labels
            targets = following
            if shift_labels is None:
                marks = None if pixel_values is None else self.model.find_marks(input_ids, inputs_embeds)
                targets = _true_targets(labels, attention_mask, marks)
            loss = _compute_loss(logits, targets[:, kept], following[:, kept], num_items_in_batch)
        return LaVITCausalLMOutputWithPast(
            loss=loss,
            logits=logits if guidance is None else guide(logits, guidance),
            cache=outputs.cache,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            attention_mask=outputs.attention_mask,
            image_outputs=outputs.image_outputs,
        )

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Computes logits `(..., vocab_size)` from hidden states `(..., hidden_size)`: head and postprocessing."""
        return apply_after_head(self.lm_head(hidden_states), self.config.text_config)

    def _find_tied_weights(self, causal_model: PreTrainedModel) -> dict[str, str] | None:
        """Returns the weights that transformers ties if configured to: the head's to the embeddings'."""
        if not causal_model._tied_weights_keys:
            return None
        embeddings = self.get_input_embeddings()
        name = next(name for name, module in self.named_modules() if module is embeddings)
        return {"lm_head.weight": f"{name}.weight"}

    def attach_pixel_decoder(self, pipeline) -> None:
        """
        Attaches a pixel decoder for [`~LaVITForCausalLM.decode_image_tokens`] and transformers' any-to-any pipeline,
        replacing that of the repo from which the model was loaded.

        Args:
            pipeline ([`LaVITPipeline`]):
                The pipeline that turns image tokens into pixels. It doesn't need a language model.
        """
        self._pixel_decoder = pipeline

    def decode_image_tokens(self, image_tokens: torch.LongTensor) -> torch.Tensor:
        """
        Turns image tokens into pixels with the attached pixel decoder. If none is attached, the one from the model's
        repo is loaded at the first call.

        Args:
            image_tokens (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Output of [`~LaVITForCausalLM.generate`] in image mode, including the prompts.

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height, width)`, with values in 0..1.

        Raises:
            ValueError: If no pixel decoder is attached and the repo has none.
        """
        if self._pixel_decoder is None:
            with LOADING:
                if self._pixel_decoder is None:  # another thread may have loaded it
                    self._pixel_decoder = load_pixel_decoder(self)
        return self._pixel_decoder(image_token_ids=list(image_tokens), output_type="pt").images


def _compute_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None,
) -> torch.Tensor:
    """Computes the loss of shifted targets, `(batch_size, length)`, given shifted labels of the same shape."""
    total = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    num_targets, num_labels = ((some != IGNORE_INDEX).sum() for some in (targets, labels))
    return average_loss(total, num_targets, num_labels, num_items_in_batch)


def _shift(labels: torch.Tensor) -> torch.Tensor:
    """Aligns each label with the id before it, which predicts it."""
    return nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)


def _check_labels(labels: torch.Tensor, hidden_states: torch.Tensor) -> None:
    if labels.shape != hidden_states.shape[:2]:
        raise ValueError(
            f"the labels have shape {tuple(labels.shape)}, but the ids {tuple(hidden_states.shape[:2])}. There must "
            "be one label per id, -100 for ids that are not learned."
        )


def _true_targets(
    labels: torch.Tensor, attention_mask: torch.Tensor | None, marks: torch.Tensor | None
) -> torch.Tensor:
    """Shifts labels and masks those that can't be predicted: the first id of each row, and the marks of slots."""
    if attention_mask is not None and attention_mask.shape == labels.shape:
        first = (attention_mask.cumsum(dim=-1) == 1) & attention_mask.bool()
        labels = labels.masked_fill(first, IGNORE_INDEX)
    return _shift(labels if marks is None else labels.masked_fill(marks, IGNORE_INDEX))


def average_loss(
    total: torch.Tensor,
    num_targets: torch.Tensor | int,
    num_labels: torch.Tensor | int,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """
    Averages the loss over all targets of a batch, which may be split into several parts.

    `Trainer` passes the number of labels in all parts. If each of them is a target, as with labels from
    [`LaVITProcessor`], the losses of the parts add up to the mean. Otherwise, the number of targets in the other parts
    is unknown, and the mean of each part is weighted by its number of labels.

    Args:
        total (`torch.Tensor`):
            Sum of the losses, a scalar.
        num_targets (`torch.Tensor` or `int`):
            Number of losses in the sum.
        num_labels (`torch.Tensor` or `int`):
            Number of labels that `Trainer` counts in this part.
        num_items_in_batch (`torch.Tensor` or `int`, *optional*):
            Number of labels that it counts in all parts. By default, this part is the whole batch.

    Returns:
        `torch.Tensor`: A scalar.
    """
    mean = total / torch.as_tensor(num_targets, device=total.device).clamp(min=1)
    if num_items_in_batch is None:
        return mean
    if torch.is_tensor(num_items_in_batch):
        num_items_in_batch = num_items_in_batch.to(mean.device)
    return mean * num_labels / num_items_in_batch


__all__ = [
    "LaVITCausalLMOutputWithPast",
    "LaVITForCausalLM",
    "LaVITModel",
    "LaVITModelOutputWithPast",
    "LaVITPreTrainedModel",
]

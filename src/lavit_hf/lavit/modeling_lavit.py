# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT: one causal language model that reads and writes text and images."""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, ModelCard
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, Cache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple

from .checkpoint_index import MAX_SHARD_SIZE, write_visual_tokenizer_index
from .configuration_lavit import LaVITConfig, LaVITVisualTokenizerConfig
from .generation_lavit import LaVITGenerationMixin, guide
from ..hub.upload import pop_push_options, push_saved
from .image_slots import IGNORE_INDEX, FilledSequence, check_image_slots, fill_image_slots, find_image_slots
from ..hub.model_card import create_model_card
from .modeling_visual_tokenizer import LaVITVisualTokenizer
from .quantization_lavit import avoid_unfit_kernels, leave_images_unquantized
from .token_merger import TokenMerger, split_by_image
from .token_selector import TokenSelector


@dataclass
class LaVITCausalLMOutputWithPast(CausalLMOutputWithPast):
    r"""
    Output of [`LaVITForCausalLM`].

    Args:
        logits (`torch.FloatTensor` of shape `(batch_size, sequence_length, vocab_size)`):
            Scores of text and image ids, `sequence_length` counting the rows of the images in the prompt.
        attention_mask (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
            Where images were put into their slots: the mask of the longer sequence.
        image_outputs (`BaseModelOutputWithPooling`, *optional*):
            What [`~LaVITForCausalLM.get_image_features`] gave for the images.
    """

    attention_mask: torch.LongTensor | None = None
    image_outputs: BaseModelOutputWithPooling | None = None


class LaVITUnderstanding(nn.Module):
    """
    The way from encoder features to rows the language model reads: continuous, not quantised (paper, section 3.2),
    with a merger and where so configured a selector of its own.
    """

    def __init__(self, config: LaVITConfig):
        super().__init__()
        visual_config = config.visual_tokenizer_config
        self.selector = TokenSelector(visual_config) if config.understanding_selector else None
        self.merger = TokenMerger(visual_config)
        self.projection = nn.Linear(visual_config.hidden_size, config.text_config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        shared_selector: Callable,
        keep_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(num_images, num_patches, hidden_size)`):
                The encoder's features, embedded.
            shared_selector (`Callable`):
                The visual tokenizer's, which decides where there is none of its own. Not the module itself, which
                accelerate's hooks would move as they move tensors, even where its weights are on the disk.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep.
            generator (`torch.Generator`, *optional*):
                Source of the selector's draws.

        Returns:
            `list[torch.Tensor]`: the rows of each image, `(kept, text_hidden_size)`.
        """
        selector = shared_selector if self.selector is None else self.selector
        keep_mask, _ = selector(hidden_states, keep_mask, generator)
        return split_by_image(self.projection(self.merger(hidden_states, keep_mask)), keep_mask)


class LaVITPreTrainedModel(PreTrainedModel):
    config: LaVITConfig
    config_class = LaVITConfig
    input_modalities = ("image", "text")
    output_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # A device map may cut between these, but not where they index rows by masks.
    _no_split_modules = ["TokenSelector", "TokenMerger", "VectorQuantizer"]
    _keep_in_fp32_modules_strict = ["selector"]


class LaVITForCausalLM(LaVITPreTrainedModel, LaVITGenerationMixin):
    r"""
    LaVIT (arXiv 2309.04669): a causal language model over text and image ids, the visual tokenizer that turns images
    into ids, and the understanding branch that turns them into continuous rows. The encoder is shared.

    A prompt holds an image as a slot, `[IMG][/IMG]`, which is filled with the image's rows (reading) or codes
    (writing) when it is known how many patches are kept.

    Example:

    ```python
    >>> from lavit_hf import LaVITForCausalLM, LaVITProcessor

    >>> processor = LaVITProcessor.from_pretrained(path)
    >>> model = LaVITForCausalLM.from_pretrained(path)
    >>> inputs = processor(images=image, return_tensors="pt")
    >>> processor.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    ```
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
        self.language_model = language_model or AutoModelForCausalLM.from_config(config.text_config)
        self._pixel_decoder = None
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, quantization_config=None, **kwargs):
        if quantization_config is not None:
            kwargs["quantization_config"] = leave_images_unquantized(quantization_config)
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        avoid_unfit_kernels(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    @classmethod
    def from_backbones(
        cls,
        vision_model: str | PreTrainedModel,
        text_model: str | PreTrainedModel,
        understanding_selector: bool = False,
        **visual_tokenizer_kwargs,
    ) -> "LaVITForCausalLM":
        """
        Starts a new LaVIT from a pretrained vision encoder and a pretrained causal language model. Their weights are
        taken over; the embeddings grow by the image ids, the new rows drawn around the mean of the old. Models passed
        as such become parts of the new one and change with it. The dtype is the language model's.

        Args:
            vision_model (`str` or `PreTrainedModel`):
                A vision model, or a path or Hub id that `AutoModel` loads.
            text_model (`str` or `PreTrainedModel`):
                A causal language model, or a path or Hub id that `AutoModelForCausalLM` loads.
            understanding_selector (`bool`, *optional*, defaults to `False`):
                See [`LaVITConfig`].
            visual_tokenizer_kwargs:
                What else [`LaVITVisualTokenizerConfig`] takes.
        """
        if isinstance(vision_model, str):
            vision_model = AutoModel.from_pretrained(vision_model)
        if isinstance(text_model, str):
            text_model = AutoModelForCausalLM.from_pretrained(text_model)
        visual_config = LaVITVisualTokenizerConfig(encoder_config=vision_model.config, **visual_tokenizer_kwargs)
        text_model.resize_token_embeddings(text_model.config.vocab_size + visual_config.codebook_size + 2)
        config = LaVITConfig(
            visual_tokenizer_config=visual_config,
            text_config=text_model.config,
            understanding_selector=understanding_selector,
        )
        model = cls(config, encoder=vision_model, language_model=text_model).to(text_model.dtype)
        model.generation_config = copy.deepcopy(text_model.generation_config)
        return model

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        return self.language_model.get_decoder()

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args, **kwargs) -> nn.Module:
        if new_num_tokens in (None, self.config.text_config.vocab_size):
            return self.get_input_embeddings()
        raise ValueError(
            f"the vocabulary of a LaVIT cannot be resized to {new_num_tokens}: the image ids stand behind the "
            f"{self.config.text_vocab_size} text ids and must stay there. Grow the language model first, then call "
            "LaVITForCausalLM.from_backbones."
        )

    def get_image_tokens(
        self,
        pixel_values: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """
        Images as sentences of the language model.

        Args:
            pixel_values (`torch.Tensor` of shape `(num_images, num_channels, image_size, image_size)`):
                Normalised pixels, as the processor gives them.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep. By default the selector decides.
            generator (`torch.Generator`, *optional*):
                Source of the selector's draws.

        Returns:
            `list[torch.LongTensor]`: for each image `[IMG]`, its codes' ids and `[/IMG]`, of shape `(kept + 2,)`.
        """
        codes = self.visual_tokenizer(pixel_values, keep_mask, generator).codes
        start, end = [self.config.image_start_token_id], [self.config.image_end_token_id]
        return [
            torch.cat([image.new_tensor(start), image + self.config.first_code_token_id, image.new_tensor(end)])
            for image in codes
        ]

    @can_return_tuple
    def get_image_features(
        self,
        pixel_values: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """
        Images as the language model reads them: continuous rows.

        Args:
            pixel_values (`torch.Tensor` of shape `(num_images, num_channels, image_size, image_size)`):
                Normalised pixels, as the processor gives them.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep. By default the selector decides.
            generator (`torch.Generator`, *optional*):
                Source of the selector's draws.

        Returns:
            `BaseModelOutputWithPooling`: `pooler_output` is the list of rows, each `(kept, text_hidden_size)`;
            `last_hidden_state` the encoder's features, `(num_images, num_patches, feature_size)`.
        """
        encoded = self.visual_tokenizer.encode(pixel_values, **kwargs)
        return BaseModelOutputWithPooling(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=self.read_features(encoded.last_hidden_state, keep_mask, generator),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def read_features(
        self,
        features: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """
        Turns the encoder's features into the rows that the language model reads.

        Args:
            features (`torch.Tensor` of shape `(num_images, num_patches, feature_size)`):
                What [`~LaVITVisualTokenizer.encode`] gave.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep, in place of the selection rule's choice.
            generator (`torch.Generator`, *optional*):
                Source of the draws.

        Returns:
            `list[torch.Tensor]`: the rows of each image, `(kept, text_hidden_size)`.
        """
        hidden_states = self.visual_tokenizer.embedding(features)
        return self.understanding(hidden_states, partial(self.visual_tokenizer.selector), keep_mask, generator)

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
        **kwargs: Unpack[TransformersKwargs],
    ) -> LaVITCausalLMOutputWithPast:
        r"""
        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Text and image ids. A slot `[IMG][/IMG]` stands for the next of `pixel_values`.
            pixel_values (`torch.FloatTensor`, *optional*):
                The images of all slots in the order of the batch, read as continuous rows; of the shape
                `(num_images, num_channels, image_size, image_size)`.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                Zero where there is padding.
            position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Positions; counted from `attention_mask` where images are put into their slots.
            cache (`Cache`, *optional*):
                Keys and values of earlier steps.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, hidden_size)`, *optional*):
                Embeddings in place of `input_ids`.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Targets, text and image ids alike, aligned with `input_ids`; -100 is passed over. An image in a slot
                is a condition and never a target.
            logits_to_keep (`int` or `torch.Tensor`, *optional*, defaults to 0):
                How many logits from the end to compute; all where it is zero.
            guidance (`float`, *optional*):
                Guidance scale of a doubled batch, whose second half is the unconditional branch. The logits are then
                the guided ones, of half the batch size.

        Returns:
            [`LaVITCausalLMOutputWithPast`].
        """
        image_outputs = None
        if pixel_values is None:
            self.check_no_slots(input_ids)
        else:
            image_outputs = self.get_image_features(pixel_values, return_dict=True)
            filled = self.fill_slots(image_outputs.pooler_output, input_ids, inputs_embeds, attention_mask, labels)
            input_ids, inputs_embeds = None, filled.inputs_embeds
            attention_mask, labels = filled.attention_mask, filled.labels
            position_ids = (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
        if labels is not None and attention_mask is not None and attention_mask.ndim == 2:
            labels = _without_first(labels, attention_mask)
        outputs = self.language_model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            labels=labels,
            logits_to_keep=logits_to_keep,
            return_dict=True,
            **kwargs,
        )
        return LaVITCausalLMOutputWithPast(
            loss=outputs.loss,
            logits=outputs.logits if guidance is None else guide(outputs.logits, guidance),
            cache=outputs.cache,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            attention_mask=attention_mask if pixel_values is not None else None,
            image_outputs=image_outputs,
        )

    def check_no_slots(self, input_ids: torch.LongTensor | None) -> None:
        """Raises a `ValueError` where `input_ids`, of shape `(batch_size, sequence_length)`, wait for an image."""
        # A decoding step of one token cannot hold a slot, and must not wait for a check.
        if input_ids is not None and input_ids.shape[1] > 1 and not torch.compiler.is_compiling():
            check_image_slots(self._find_slots(input_ids), num_images=0)

    def _find_slots(self, input_ids: torch.LongTensor) -> torch.Tensor:
        return find_image_slots(input_ids, self.config.image_start_token_id, self.config.image_end_token_id)

    def fill_slots(
        self,
        image_rows: list[torch.Tensor],
        input_ids: torch.LongTensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        keep_marks: bool = True,
    ) -> FilledSequence:
        """
        Puts images into the slots of prompts, which are ids, embeddings or both; see [`fill_image_slots`].

        Raises:
            ValueError: If slots and images differ in number, or the mask covers more than the prompts.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("pixel_values need input_ids with a slot `[IMG][/IMG]` for each image.")
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if attention_mask is not None and attention_mask.shape != inputs_embeds.shape[:2]:
            raise ValueError(
                f"attention_mask has the shape {tuple(attention_mask.shape)} for prompts of "
                f"{tuple(inputs_embeds.shape[:2])}: images stand in a first prompt, not in one that goes on from a "
                "cache."
            )
        opens = self._find_slots(self._recover_marks(inputs_embeds) if input_ids is None else input_ids)
        return fill_image_slots(opens, inputs_embeds, image_rows, attention_mask, labels, keep_marks)

    def _recover_marks(self, inputs_embeds: torch.Tensor) -> torch.LongTensor:
        """Ids `(batch_size, sequence_length)` in which the image marks are recognised by their embeddings alone."""
        marks = (self.config.image_start_token_id, self.config.image_end_token_id)
        ids = torch.full(inputs_embeds.shape[:2], -1, device=inputs_embeds.device)
        for mark in marks:
            embedding = self.get_input_embeddings()(torch.tensor(mark, device=inputs_embeds.device))
            ids[(inputs_embeds == embedding).all(dim=-1)] = mark
        return ids

    def attach_pixel_decoder(self, pipeline) -> None:
        """
        Lets [`~LaVITForCausalLM.decode_image_tokens`], and with it transformers' any-to-any pipeline, give pictures.

        Args:
            pipeline ([`LaVITPipeline`]):
                What turns image tokens into pixels; it needs no language model of its own.
        """
        self._pixel_decoder = pipeline

    def decode_image_tokens(self, image_tokens: torch.LongTensor) -> torch.Tensor:
        """
        Args:
            image_tokens (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                What [`~LaVITForCausalLM.generate`] gives in image mode, prompts in front.

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height, width)`, in 0..1.

        Raises:
            ValueError: If no pixel decoder is attached.
        """
        if self._pixel_decoder is None:
            raise ValueError(
                "codes become pixels in a pixel decoder, and none is attached: call model.attach_pixel_decoder("
                "LaVITPipeline.from_pretrained(path, language_model=None)) with a repo that has one."
            )
        return self._pixel_decoder(image_token_ids=list(image_tokens), output_type="pt").images

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        max_shard_size: int | str = MAX_SHARD_SIZE,
        variant: str | None = None,
        push_to_hub: bool = False,
        **kwargs,
    ) -> None:
        # diffusers hands on what it finds in the signature.
        is_writing = self.should_save_on_this_rank(is_main_process)
        options = {"is_main_process": is_main_process, "max_shard_size": max_shard_size, "variant": variant}
        if push_to_hub and not kwargs.get("distributed_checkpoint"):  # its shards are put together by super
            push_options = pop_push_options(kwargs)
            repo_id = kwargs.pop("repo_id", Path(save_directory).name)
            if is_writing:
                self._push(repo_id, options | kwargs, folder=Path(save_directory), **push_options)
                return
            push_to_hub = False
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **options, **kwargs)
        if is_writing:
            write_visual_tokenizer_index(Path(save_directory), variant)

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str = MAX_SHARD_SIZE, **kwargs) -> CommitInfo:
        """
        Pushes model and configs, with a model card unless the repo has one. The processor is pushed by its own
        `push_to_hub`, a whole repo by [`LaVITPipeline`]'s.

        Args:
            repo_id (`str`):
                The repo. It is created where there is none.
            max_shard_size (`int` or `str`, *optional*, defaults to `"1GB"`):
                Largest size of a file of weights.
            kwargs:
                `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description` and `tags`, as
                every `push_to_hub` of transformers takes them.

        Returns:
            `CommitInfo`: what was committed.
        """
        return self._push(repo_id, {"max_shard_size": max_shard_size}, **kwargs)

    def _push(self, repo_id: str, save_options: dict[str, Any], **push_options) -> CommitInfo:
        save = partial(self.save_pretrained, **save_options)
        return push_saved(save, self._make_card, repo_id, model_tags=self.model_tags or (), **push_options)

    def _make_card(self, repo_id: str) -> ModelCard:
        name = repo_id.split("/")[-1]
        return create_model_card(self.config, name, repo=repo_id, num_parameters=self.num_parameters())


def _without_first(labels: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Labels without the first real id of each sample, which nothing but padding stands in front of to predict it."""
    first = (attention_mask.cumsum(dim=-1) == 1) & attention_mask.bool()
    return labels.masked_fill(first, IGNORE_INDEX)


__all__ = ["LaVITCausalLMOutputWithPast", "LaVITForCausalLM", "LaVITPreTrainedModel"]

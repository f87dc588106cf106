# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Stage 2: the language model learns to read and write images, with a frozen tokenizer (paper, section 3.2)."""

import copy
import os
from dataclasses import dataclass

import torch
from torch import distributed, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput
from transformers.utils.generic import is_flash_attention_requested

from ..lavit.atomic_saving import saves_atomically
from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.generation_lavit import DEFAULT_IMAGE_GENERATION
from ..lavit.modeling_lavit import LaVITForCausalLM, average_loss
from ..lavit.modeling_layers import IGNORE_INDEX, split_by_image
from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from .packing import PackedBatch, pack


@dataclass
class LaVITForPreTrainingOutput(ModelOutput):
    r"""
    Output of [`LaVITForPreTraining`].

    Args:
        loss (`torch.FloatTensor`):
            Cross-entropy over all targets, both text and image ids.
        text_loss (`torch.FloatTensor`):
            Mean over the text targets; zero if there are none.
        image_loss (`torch.FloatTensor`):
            Mean over the image id targets; zero if there are none.
        num_text_targets (`torch.LongTensor`):
            Number of text targets.
        num_image_targets (`torch.LongTensor`):
            Number of image id targets.
        num_tokens (`int`):
            Number of input tokens, including images in slots and excluding padding.
    """

    loss: torch.FloatTensor | None = None
    text_loss: torch.FloatTensor | None = None
    image_loss: torch.FloatTensor | None = None
    num_text_targets: torch.LongTensor | None = None
    num_image_targets: torch.LongTensor | None = None
    num_tokens: int | None = None


class LaVITForPreTraining(LaVITForCausalLM):
    r"""
    LaVIT in its second stage of training (arXiv 2309.04669, section 3.2): the understanding branch, the language model
    and its head are trained, and the visual tokenizer is frozen. Saved models load as [`LaVITForCausalLM`].

    If `pack_length` is set, the samples of a batch are packed into rows of at most that many tokens to reduce padding.
    The losses don't change.

    Args:
        config ([`LaVITConfig`]):
            The configuration.
        encoder, language_model (`PreTrainedModel`, *optional*):
            Backbones, as for [`LaVITForCausalLM`].

    Raises:
        ValueError: As [`LaVITForCausalLM`], if the language model can't be used.

    Example:

    ```python
    >>> from lavit_hf import LaVITForPreTraining

    >>> model = LaVITForPreTraining.from_visual_tokenizer("visual-tokenizer", "llama-2-7b")
    >>> model.pack_length = 2048
    >>> model.train()(input_ids, attention_mask, labels, pixel_values=pixel_values).loss.backward()
    ```
    """

    def __init__(self, config: LaVITConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        self.pack_length: int | None = None
        self.loss_type = "ForCausalLM"  # tells `Trainer` that the first label of a row is not a target

    @classmethod
    def from_visual_tokenizer(
        cls,
        visual_tokenizer: str | os.PathLike | LaVITVisualTokenizer,
        text_model: str | os.PathLike | PreTrainedModel | PreTrainedConfig,
        understanding_selector: bool = False,
        codes_from_codebook: bool = False,
    ) -> "LaVITForPreTraining":
        """
        Creates the model from a trained visual tokenizer and a text-only language model, whose embeddings are extended
        by the image ids. The understanding branch is initialized with the tokenizer's selector and merger. Models that
        are passed become part of the new model and change with it. The dtype is that of the language model.

        Args:
            visual_tokenizer (`str`, `os.PathLike` or [`LaVITVisualTokenizer`]):
                The tokenizer, or where to load it from.
            text_model (`str`, `os.PathLike`, `PreTrainedModel` or `PreTrainedConfig`):
                A causal language model, or where to load it from. A configuration creates one with random weights; its
                `vocab_size` must only include the text ids.
            understanding_selector (`bool`, *optional*, defaults to `False`):
                See [`LaVITConfig`].
            codes_from_codebook (`bool`, *optional*, defaults to `False`):
                Whether to initialize the embeddings of codes with a random projection of the codebook, so that similar
                codes have similar embeddings. Otherwise they are initialized like the language model's own.
        """
        if isinstance(visual_tokenizer, str | os.PathLike):
            visual_tokenizer = LaVITVisualTokenizer.from_pretrained(visual_tokenizer)
        encoder = visual_tokenizer.encoder.model
        language_model = _with_image_ids(text_model, visual_tokenizer.config.codebook_size)
        config = LaVITConfig(
            visual_tokenizer_config=visual_tokenizer.config,
            text_config=language_model.config,
            understanding_selector=understanding_selector,
        )
        model = cls(config, encoder=encoder, language_model=language_model)
        model.visual_tokenizer.load_state_dict(visual_tokenizer.state_dict())
        model.understanding.merger.load_state_dict(visual_tokenizer.merger.state_dict())
        if understanding_selector:
            model.understanding.selector.load_state_dict(visual_tokenizer.selector.state_dict())
        if codes_from_codebook:
            model._embed_codes_by_codebook()
        model.generation_config = copy.deepcopy(language_model.generation_config)
        model.generation_config._from_model_config = False  # else `generate` would recreate it without the lengths
        lengths = {"min_new_tokens": 1, "max_new_tokens": visual_tokenizer.config.num_patches + 1}
        model.generation_config.image_generation = DEFAULT_IMAGE_GENERATION | lengths
        model._bring_images_to(language_model.dtype)
        return model

    @torch.no_grad()
    def _embed_codes_by_codebook(self) -> None:
        codebook = self.visual_tokenizer.quantizer.codebook.weight.float()
        codebook = codebook - codebook.mean(dim=0)
        embeddings = self.get_input_embeddings().weight[self.config.first_code_token_id :]
        rows = codebook @ torch.randn(codebook.shape[1], embeddings.shape[1], device=codebook.device)
        embeddings.copy_(rows * (embeddings.float().std() / rows.std()))

    def share_merger(self) -> None:
        """
        Replaces the understanding branch's merger by the visual tokenizer's, which computed the `image_rows`.

        Raises:
            ValueError: If the branch has its own selector, which the rows were not merged for.
        """
        if self.understanding.selector is not None:
            raise ValueError(
                "merged rows come from the visual tokenizer's own selector. Set understanding_selector=False."
            )
        self.understanding.merger = None
        self.config.understanding_merger = False

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        image_features: torch.FloatTensor | None = None,
        image_rows: torch.FloatTensor | None = None,
        keep_mask: torch.BoolTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        position_ids: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> LaVITForPreTrainingOutput | CausalLMOutputWithPast:
        r"""
        Computes the losses of text and image ids.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Text and image ids. Each slot `[IMG][/IMG]` stands for the next image to read.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                Zero for padding, on either side.
            labels (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Targets, both text and image ids, aligned with `input_ids`; -100 is ignored. Without labels, this is
                the forward method of [`LaVITForCausalLM`], with all of its arguments, as used by `generate`.
            pixel_values (`torch.FloatTensor`, *optional*):
                The normalized images of all slots, `(num_images, num_channels, image_size, image_size)`.
            image_features (`torch.FloatTensor` of shape `(num_images, num_patches, feature_size)`, *optional*):
                The encoder's precomputed features of the images.
            image_rows (`torch.FloatTensor` of shape `(total_kept, hidden_size)`, *optional*):
                The visual tokenizer's precomputed merged rows of the images, concatenated, with the numbers of rows
                given by `keep_mask`. Only the understanding branch's projection is applied to them.
            keep_mask (`torch.BoolTensor` of shape `(num_images, num_patches)`, *optional*):
                Patches to keep. By default, the selector decides.
            num_items_in_batch (`torch.Tensor` or `int`, *optional*):
                Number of labels in a batch that is split over several calls or processes, as counted by `Trainer`:
                those that are not -100, except for the first of each row. Defaults to the number of targets.

        Returns:
            [`LaVITForPreTrainingOutput`].

        Raises:
            ValueError: If images are given in more than one form, the numbers of slots and images differ, or
                `image_rows` is given without `keep_mask`.
        """
        if labels is None:
            return super().forward(
                input_ids, pixel_values, attention_mask, position_ids, logits_to_keep=logits_to_keep, **kwargs
            )
        given = {"image_rows": image_rows, "image_features": image_features, "pixel_values": pixel_values}
        images, nothing = self._read_given(given, keep_mask)
        packed, tokens = self._pack(images, input_ids, attention_mask, labels)
        if not images:
            # Not added to the loss, because the gradient must pass through the language model in every process.
            tokens = tokens + nothing
        losses, targets = self._predict(packed, tokens)
        num_labels = (labels[:, 1:] != IGNORE_INDEX).sum()
        output = self._average(losses, targets, num_labels, num_items_in_batch)
        output.num_tokens = packed.num_tokens
        return output

    def _read_given(
        self, given: dict[str, torch.Tensor | None], keep_mask: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], torch.Tensor | float]:
        """Returns the rows of each image, `(kept, text_hidden_size)`; without images, [`~LaVITModel.read_nothing`]."""
        forms = [form for form, images in given.items() if images is not None]
        if len(forms) > 1:
            raise ValueError("pass images as only one of pixel_values, image_features and image_rows.")
        if given["image_rows"] is not None and keep_mask is None:
            raise ValueError("image_rows needs a keep_mask, which says how many rows belong to each image.")
        blank = self._find_blank(forms) if self.model.is_sharded else None
        if forms:
            return self._read_form(forms[0], given[forms[0]], keep_mask), 0.0
        if blank is None:
            return [], self.model.read_nothing()
        return [], 0.0 * self._read_form(*blank)[0].sum()

    def _find_blank(self, forms: list[str]) -> tuple[str, torch.Tensor, torch.Tensor] | None:
        """
        Returns a blank image in the form that other processes read, with its form and keep mask, or `None` if no
        process reads an image. Needed if weights are sharded, since all processes must gather the same ones. A
        collective call.
        """
        config = self.config.visual_tokenizer_config
        channels = getattr(config.encoder_config, "num_channels", 3)
        shapes = {
            "image_rows": (config.num_patches, config.hidden_size),
            "image_features": (1, config.num_patches, config.feature_size),
            "pixel_values": (1, channels, config.image_size, config.image_size),
        }
        number = torch.tensor([list(shapes).index(forms[0]) if forms else -1], device=self.device)
        distributed.all_reduce(number, distributed.ReduceOp.MAX)
        if number.item() < 0:
            return None
        form = list(shapes)[int(number)]
        keep_mask = torch.ones(1, config.num_patches, dtype=torch.bool, device=self.device)
        return form, torch.zeros(shapes[form], device=self.device), keep_mask

    def _read_form(self, form: str, images: torch.Tensor, keep_mask: torch.Tensor | None) -> list[torch.Tensor]:
        if form == "image_rows":
            return split_by_image(self.understanding.projection(images.to(self.dtype)), keep_mask)
        if form == "pixel_values":
            images = self.visual_tokenizer.encode(images).last_hidden_state
        return self.read_features(images.to(self.dtype), keep_mask)

    def _embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embeds ids, `(batch_size, sequence_length)` to `(batch_size, sequence_length, text_hidden_size)`."""
        return self.get_input_embeddings()(input_ids)

    def _pack(
        self,
        images: list[torch.Tensor],
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        labels: torch.Tensor,
    ) -> tuple[PackedBatch, torch.Tensor]:
        """Returns the batch with images in their slots, and its token embeddings, `(num_tokens, hidden_size)`."""
        embeds = self._embed(input_ids).flatten(0, 1)
        tokens = torch.cat([embeds, *(rows.to(embeds) for rows in images)])
        numbers = torch.arange(len(tokens), device=tokens.device)
        own, *of_images = numbers[:, None].split([len(embeds), *map(len, images)])
        filled = self.model.fill_slots(of_images, input_ids, own.view(*input_ids.shape, 1), attention_mask)
        labels = filled.spread(labels.masked_fill(self.model.find_marks(input_ids), IGNORE_INDEX), IGNORE_INDEX)
        packed = pack(filled.inputs_embeds[..., 0], filled.attention_mask, labels, self.pack_length)
        if is_flash_attention_requested(self.language_model.config):
            packed = packed.in_one_row()
        return packed, tokens

    def _predict(self, batch: PackedBatch, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the cross-entropy of every target in the batch, and the targets, both `(num_targets,)`."""
        following = nn.functional.pad(batch.labels[:, 1:], (0, 1), value=IGNORE_INDEX)
        is_target = following != IGNORE_INDEX
        inputs_embeds = tokens.index_select(0, batch.token_numbers.flatten()).view(*following.shape, -1)
        outputs = self.model(inputs_embeds=inputs_embeds, position_ids=batch.position_ids, use_cache=False)
        # With a large vocabulary, the logits of all other tokens would need more memory than the rest of the model.
        targets = following[is_target]
        return self._compare(outputs.last_hidden_state[is_target], targets), targets

    def _compare(self, hidden_states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the loss of each target, `(num_targets,)`, from hidden states, `(num_targets, text_hidden_size)`."""
        return nn.functional.cross_entropy(self.compute_logits(hidden_states).float(), targets, reduction="none")

    def _average(
        self,
        losses: torch.Tensor,
        targets: torch.Tensor,
        num_labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None,
    ) -> LaVITForPreTrainingOutput:
        is_image = targets >= self.config.image_start_token_id
        num_image_targets = is_image.sum()
        num_text_targets = is_image.numel() - num_image_targets
        return LaVITForPreTrainingOutput(
            loss=average_loss(losses.sum(), is_image.numel(), num_labels, num_items_in_batch),
            text_loss=losses.detach()[~is_image].sum() / num_text_targets.clamp(min=1),
            image_loss=losses.detach()[is_image].sum() / num_image_targets.clamp(min=1),
            num_text_targets=num_text_targets,
            num_image_targets=num_image_targets,
        )

    @saves_atomically
    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, **kwargs) -> None:
        super().save_pretrained(save_directory, is_main_process, **kwargs)
        if self.should_save_on_this_rank(is_main_process):
            self.config.architectures = [LaVITForCausalLM.__name__]
            self.config.save_pretrained(save_directory)


def _with_image_ids(
    text_model: str | os.PathLike | PreTrainedModel | PreTrainedConfig, codebook_size: int
) -> PreTrainedModel:
    if isinstance(text_model, PreTrainedConfig):
        config = copy.deepcopy(text_model)
        config.vocab_size += codebook_size + 2
        return AutoModelForCausalLM.from_config(config)
    if isinstance(text_model, str | os.PathLike):
        text_model = AutoModelForCausalLM.from_pretrained(text_model)
    # New rows are initialized randomly: with the mean of all words, all codes would be the same.
    text_model.resize_token_embeddings(text_model.config.vocab_size + codebook_size + 2, mean_resizing=False)
    return text_model


__all__ = ["LaVITForPreTraining", "LaVITForPreTrainingOutput"]

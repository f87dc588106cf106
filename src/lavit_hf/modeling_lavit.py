# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT: one causal language model that reads and writes text and images."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    Cache,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple

from .checkpoint_index import write_visual_tokenizer_index
from .configuration_lavit import LaVITConfig, LaVITVisualTokenizerConfig
from .generation_lavit import (
    DEFAULT_IMAGE_GENERATION,
    GENERATION_MODES,
    AllowedTokensLogitsProcessor,
    ImageEndLogitsProcessor,
    allowed_tokens,
    guide,
)
from .image_slots import FilledSequence, check_image_slots, fill_image_slots, find_image_slots, pad_left
from .modeling_visual_tokenizer import LaVITVisualTokenizer
from .quantization_lavit import leave_images_unquantized
from .token_merger import TokenMerger
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


class LaVITPreTrainedModel(PreTrainedModel):
    config: LaVITConfig
    config_class = LaVITConfig
    input_modalities = ("image", "text")
    output_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["LaVITLayer"]
    _keep_in_fp32_modules_strict = ["selector"]


class LaVITForCausalLM(LaVITPreTrainedModel, GenerationMixin):
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
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

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
        taken over; the embeddings grow by the image ids, the new rows drawn around the mean of the old.

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
        return cls(config, encoder=vision_model, language_model=text_model)

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
        start = torch.tensor([self.config.image_start_token_id], device=self.device)
        end = torch.tensor([self.config.image_end_token_id], device=self.device)
        return [torch.cat([start, image + self.config.first_code_token_id, end]) for image in codes]

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
        hidden_states = self.visual_tokenizer.embedding(encoded.last_hidden_state)
        selector = self.understanding.selector or self.visual_tokenizer.selector
        keep_mask, _ = selector(hidden_states, keep_mask, generator)
        rows = self.understanding.projection(self.understanding.merger(hidden_states, keep_mask))
        counts = (keep_mask > 0.5).sum(dim=1).tolist()
        return BaseModelOutputWithPooling(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=list(rows.split(counts)),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

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
            self._check_no_slots(input_ids)
        else:
            image_outputs = self.get_image_features(pixel_values, return_dict=True)
            filled = self._fill_slots(input_ids, inputs_embeds, image_outputs.pooler_output, attention_mask, labels)
            input_ids, inputs_embeds = None, filled.inputs_embeds
            attention_mask, labels = filled.attention_mask, filled.labels
            position_ids = (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
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

    def _check_no_slots(self, input_ids: torch.LongTensor | None) -> None:
        # A decoding step of one token cannot hold a slot, and must not wait for a check.
        if input_ids is not None and input_ids.shape[1] > 1 and not torch.compiler.is_compiling():
            check_image_slots(self._find_slots(input_ids), num_images=0)

    def _find_slots(self, input_ids: torch.LongTensor) -> torch.Tensor:
        return find_image_slots(input_ids, self.config.image_start_token_id, self.config.image_end_token_id)

    def _fill_slots(
        self,
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor | None,
        image_rows: list[torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        keep_marks: bool = True,
    ) -> FilledSequence:
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
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

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        generation_mode: str = "text",
        guidance_scale: float | None = None,
        negative_prompt_ids: torch.LongTensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        strict_image_tokens: bool = True,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        generator: torch.Generator | None = None,
        **kwargs,
    ) -> torch.LongTensor:
        r"""
        Writes text or an image.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`):
                Prompts as the processor makes them for this `generation_mode`.
            pixel_values (`torch.FloatTensor`, *optional*):
                The images of all slots, of the shape `(num_images, num_channels, image_size, image_size)`. Read
                once, as continuous rows in text mode and as codes in image mode.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                Zero where there is padding.
            generation_mode (`str`, *optional*, defaults to `"text"`):
                `"text"` or `"image"`. Image mode starts from the defaults of
                `generation_config.image_generation`, and ends with `[/IMG]`.
            guidance_scale (`float`, *optional*):
                Classifier-free guidance in image mode. Both branches run in one pass. 1 runs the prompt alone.
            negative_prompt_ids (`torch.LongTensor` of shape `(batch_size, negative_length)`, *optional*):
                What guidance leads away from, made by the processor in image mode. `[IMG]` alone by default.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(batch_size, negative_length)`, *optional*):
                Zero where there is padding.
            strict_image_tokens (`bool`, *optional*, defaults to `True`):
                Whether image mode allows nothing but codes and `[/IMG]`. The released models also let control tokens
                and `[IMG]` through; `False` reproduces that.
            generation_config (`GenerationConfig`, *optional*):
                As in transformers.
            logits_processor (`LogitsProcessorList`, *optional*):
                The caller's own processors, run after the mode's.
            generator (`torch.Generator`, *optional*):
                Source of the selector's draws.
            kwargs:
                Everything else that transformers' `generate` takes.

        Returns:
            `torch.LongTensor` of shape `(batch_size, sequence_length + new_tokens)`: the prompts as they were given,
            slots unfilled, and the new ids; or transformers' output class where `return_dict_in_generate` is set.

        Raises:
            ValueError: On an unknown mode, guidance below 1 or in text mode, slots and images that differ in number,
                a negative prompt of another batch size, or a prompt beyond the context length.
        """
        if generation_mode not in GENERATION_MODES:
            raise ValueError(f"unknown generation_mode {generation_mode!r}: choose one of {GENERATION_MODES}.")
        generation_config, kwargs = self._mode_generation_config(generation_mode, generation_config, kwargs)
        guidance = _pop_guidance(generation_config, guidance_scale, generation_mode)
        input_ids = kwargs.pop("inputs", input_ids)
        if input_ids is None and "inputs_embeds" not in kwargs:
            raise ValueError("there is nothing to go on from: pass input_ids, as the processor makes them.")
        prompt = self._prompt_inputs(generation_mode, input_ids, pixel_values, attention_mask, generator)
        if guidance is not None:
            prompt = self._double_prompt(prompt, negative_prompt_ids, negative_prompt_attention_mask)
            prompt["guidance"] = guidance
        processors = self._mode_processors(generation_mode, prompt, strict_image_tokens)
        processors += logits_processor or []
        return super().generate(generation_config=generation_config, logits_processor=processors, **prompt, **kwargs)

    def _mode_generation_config(
        self, generation_mode: str, generation_config: GenerationConfig | None, kwargs: dict
    ) -> tuple[GenerationConfig, dict]:
        """The mode's defaults under the caller's config under the caller's arguments, and what is left of these."""
        config = copy.deepcopy(self.generation_config)
        if generation_mode == "image":
            config.update(**getattr(config, "image_generation", DEFAULT_IMAGE_GENERATION))
            config.eos_token_id = self.config.image_end_token_id
        if generation_config is not None:
            config.update(**generation_config.to_diff_dict())
        return config, config.update(**kwargs)

    def _mode_processors(
        self, generation_mode: str, prompt: dict[str, torch.Tensor], strict_image_tokens: bool
    ) -> LogitsProcessorList:
        allowed = allowed_tokens(self.config, generation_mode, strict_image_tokens, self.device)
        processors = LogitsProcessorList([AllowedTokensLogitsProcessor(allowed)])
        if generation_mode == "image":
            prompt_length = prompt["input_ids"].shape[1] if "input_ids" in prompt else 0
            num_patches = self.config.visual_tokenizer_config.num_patches
            processors.append(ImageEndLogitsProcessor(prompt_length, num_patches, self.config.image_end_token_id))
        return processors

    def _prompt_inputs(
        self,
        generation_mode: str,
        input_ids: torch.LongTensor | None,
        pixel_values: torch.FloatTensor | None,
        attention_mask: torch.Tensor | None,
        generator: torch.Generator | None,
    ) -> dict[str, torch.Tensor]:
        """The prompt as transformers' `generate` takes it, the images in their slots."""
        prompt = {"input_ids": input_ids, "attention_mask": attention_mask}
        if pixel_values is not None:
            if generation_mode == "text":
                rows = self.get_image_features(pixel_values, generator=generator).pooler_output
            else:
                tokens = self.get_image_tokens(pixel_values, generator=generator)
                rows = [self.get_input_embeddings()(image[1:-1]) for image in tokens]
            keep_marks = generation_mode == "text"
            filled = self._fill_slots(input_ids, None, rows, attention_mask, keep_marks=keep_marks)
            prompt |= {"inputs_embeds": filled.inputs_embeds, "attention_mask": filled.attention_mask}
        else:
            self._check_no_slots(input_ids)
        self._check_context(prompt)
        return {name: value for name, value in prompt.items() if value is not None}

    def _check_context(self, prompt: dict[str, torch.Tensor]) -> None:
        sequence = prompt.get("inputs_embeds", prompt["input_ids"])
        context = getattr(self.config.text_config, "max_position_embeddings", None)
        if sequence is not None and context is not None and sequence.shape[1] >= context:
            raise ValueError(
                f"the prompt is {sequence.shape[1]} tokens long with its images, but the language model's context "
                f"ends at {context}: shorten the text or give fewer images."
            )

    def _double_prompt(
        self,
        prompt: dict[str, torch.Tensor],
        negative_ids: torch.LongTensor | None,
        negative_attention_mask: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """The prompts and, in a second half of the batch, what guidance leads away from."""
        input_ids = prompt["input_ids"]
        if negative_ids is None:
            negative_ids = input_ids.new_full((input_ids.shape[0], 1), self.config.image_start_token_id)
        if negative_ids.shape[0] != input_ids.shape[0]:
            raise ValueError(
                f"negative_prompt_ids hold {negative_ids.shape[0]} prompts for a batch of {input_ids.shape[0]}: "
                "give one for each prompt."
            )
        embed = self.get_input_embeddings()
        embeds = prompt["inputs_embeds"] if "inputs_embeds" in prompt else embed(input_ids)
        branches = (
            *_unpadded(embeds, prompt.get("attention_mask")),
            *_unpadded(embed(negative_ids), negative_attention_mask),
        )
        return {
            "input_ids": input_ids,
            "inputs_embeds": pad_left(branches, 0),
            "attention_mask": pad_left([torch.ones_like(branch[:, 0], dtype=torch.long) for branch in branches], 0),
        }

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

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        inputs_embeds: torch.FloatTensor | None = None,
        is_first_iteration: bool | None = False,
        guidance: float | None = None,
        **kwargs,
    ) -> dict:
        if guidance is not None and not is_first_iteration:
            input_ids = input_ids.repeat(2, 1)  # both branches go on with the token that was chosen
        return super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, guidance=guidance, **kwargs
        )

    def _reorder_cache(self, cache: Cache, beam_idx: torch.LongTensor) -> Cache:
        # Beam search knows nothing of guidance's second half of the batch.
        num_beams = beam_idx.shape[0]
        if cache.layers[0].keys.shape[0] == 2 * num_beams:
            beam_idx = torch.cat([beam_idx, beam_idx + num_beams])
        cache.reorder_cache(beam_idx)
        return cache

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        max_shard_size: int | str = "50GB",
        variant: str | None = None,
        **kwargs,
    ) -> None:
        # diffusers hands on what it finds in the signature.
        super().save_pretrained(save_directory, max_shard_size=max_shard_size, variant=variant, **kwargs)
        write_visual_tokenizer_index(Path(save_directory), variant)


def _pop_guidance(config: GenerationConfig, guidance_scale: float | None, generation_mode: str) -> float | None:
    """Takes guidance out of `config`, whose own runs two passes. `None` where there is nothing to guide."""
    scale = config.guidance_scale if guidance_scale is None else guidance_scale
    config.guidance_scale = None
    if scale is None or scale == 1:
        return None
    if scale < 1:
        raise ValueError(f"guidance_scale must be 1 (no guidance) or more, got {scale}.")
    if generation_mode != "image":
        raise ValueError(f"guidance_scale ({scale}) works in image mode only: pass generation_mode='image'.")
    return float(scale)


def _unpadded(embeds: torch.Tensor, attention_mask: torch.Tensor | None) -> list[torch.Tensor]:
    if attention_mask is None:
        return list(embeds)
    return [sample[mask.bool()] for sample, mask in zip(embeds, attention_mask, strict=True)]


__all__ = ["LaVITCausalLMOutputWithPast", "LaVITForCausalLM", "LaVITPreTrainedModel"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generation of text and images: allowed ids, images in prompts, and guidance in a single pass."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real

import torch
from transformers import Cache, GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList
from transformers.generation import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)
from transformers.utils import ModelOutput
from transformers.utils.deprecation import deprecate_kwarg

from .cached_prompt import CachedPrompt, count_sequences
from .configuration_lavit import LaVITConfig
from .input_checks import ContextLengthError, check_ids
from .keep_settings import KeepSettings, check_keep_settings
from .modeling_layers import find_image_slots, pad_left
from .token_sampling import (
    Generators,
    TokenSampler,
    check_generators,
    choosing_beams_by,
    decode_by_sampler,
    draw_beams,
    repeat_for_images,
)


GENERATION_MODES = ("text", "image")

# Image generation as released: sampling with guidance (values of LaVIT-7B).
DEFAULT_IMAGE_GENERATION = {
    "do_sample": True,
    "num_beams": 1,
    "top_k": 50,
    "top_p": 1.0,
    "min_new_tokens": 20,
    "max_new_tokens": 200,
    "guidance_scale": 4.0,
}

# Settings without effect in greedy decoding, where transformers warns about them.
SAMPLING_SETTINGS = ("temperature", "top_k", "top_p", "min_p", "typical_p")

# What `generate` returns about the images that it has read.
KEPT = ("keep_mask", "rebuild_errors", "reaches_keep_error")

# Processors of transformers that depend on the ids in a prompt, not only on their number.
READ_PROMPTS = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
)


@dataclass
class FilledPrompt:
    """
    Prompts with images filled into their slots, without the part that is already in the cache.

    Args:
        inputs (`dict[str, torch.Tensor]`):
            Inputs for transformers' `generate`. The ids are the original ones.
        ids (`torch.LongTensor` of shape `(batch_size, num_ids)`, *optional*):
            Ids of the prompts for logits processors. In image mode, codes replace the slots. Padding is replaced by
            the vocabulary size, which is not a valid id. `None` if embeddings were passed instead of ids.
        num_ids (`int`):
            Number of input ids or embeddings, including those in the cache.
        num_images (`int`):
            Number of images, including those in the cache.
        batch_size (`int`):
            Number of prompts.
        past_length (`int`):
            Number of positions in the cache.
        kept (`dict[str, torch.Tensor]`):
            The kept patches of the images that were read, under the names that `generate` returns.
    """

    inputs: dict[str, torch.Tensor]
    ids: torch.Tensor | None
    num_ids: int
    num_images: int
    batch_size: int
    past_length: int
    kept: dict[str, torch.Tensor]

    @property
    def new_length(self) -> int:
        """Number of positions that aren't in the cache."""
        if "inputs_embeds" in self.inputs:
            return self.inputs["inputs_embeds"].shape[1]
        return self.length - self.past_length

    @property
    def length(self) -> int:
        """Total number of positions."""
        if "attention_mask" in self.inputs:
            return self.inputs["attention_mask"].shape[1]
        return self.inputs["inputs_embeds" if "inputs_embeds" in self.inputs else "input_ids"].shape[1]

    @property
    def cached(self) -> CachedPrompt:
        """Contents of the cache after the prompts."""
        mask = self.inputs.get("attention_mask")
        return CachedPrompt(self.length, self.length - self.num_ids, self.num_images, self.batch_size, mask)


class LaVITGenerationMixin(GenerationMixin):
    """Gives [`LaVITForCausalLM`] a `generate` method for text and images."""

    @torch.no_grad()
    @deprecate_kwarg("past_key_values", "5.40.0", new_name="cache")
    def generate(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        generation_mode: str = "text",
        guidance_scale: float | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        negative_prompt_ids: torch.LongTensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        strict_image_tokens: bool = True,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        generator: Generators = None,
        position_ids: torch.LongTensor | None = None,
        cache: Cache | None = None,
        keep_threshold: float | None = None,
        keep_ratio: float | None = None,
        keep_error: float | None = None,
        **kwargs,
    ) -> torch.LongTensor:
        r"""
        Generates text or an image.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Prompts from the processor for this `generation_mode`. In image mode, `[IMG]` is appended if it is
                missing. Without prompts, text starts with BOS and an image with `[IMG]`.
            pixel_values (`torch.FloatTensor`, *optional*):
                The images of all slots, of shape `(num_images, num_channels, image_size, image_size)`. They are read
                once, as continuous embeddings in text mode and as codes in image mode. Images that are already in the
                cache can be left out.
            attention_mask (`torch.Tensor` of shape `(batch_size, sequence_length)`, *optional*):
                Zero for padding. By default, padding is recognized by its id, as in transformers. Only prompts with
                images or guidance can be padded on the right.
            generation_mode (`str`, *optional*, defaults to `"text"`):
                `"text"` or `"image"`. Image mode uses the defaults in `generation_config.image_generation`, and ends
                with `[/IMG]`.
            guidance_scale (`float`, *optional*):
                Scale of classifier-free guidance in image mode. Both branches run in a single pass. 1 disables
                guidance.
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, hidden_size)`, *optional*):
                Embeddings of the prompts instead of their ids.
            negative_prompt_ids (`torch.LongTensor` of shape `(batch_size, negative_length)`, *optional*):
                Negative prompts for guidance, from the processor in image mode. Defaults to just `[IMG]`.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(batch_size, negative_length)`, *optional*):
                Zero for padding.
            strict_image_tokens (`bool`, *optional*, defaults to `True`):
                Whether image mode allows only codes and `[/IMG]`. The released models also allow control tokens and
                `[IMG]`; pass `False` to reproduce that.
            generation_config (`GenerationConfig`, *optional*):
                As in transformers. If it is a copy of the model's own, only changed settings override the mode's
                defaults.
            logits_processor (`LogitsProcessorList`, *optional*):
                Additional processors, which run after those of the mode. Processors of transformers that depend on the
                prompt's ids, such as the repetition penalty, see them without padding and, in image mode, with codes
                instead of slots.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for patch selection and sampling in this thread, instead of the global random
                state. With a list of one generator per prompt, each prompt gets the same result as on its own.
            position_ids (`torch.LongTensor` of shape `(batch_size, sequence_length)`, *optional*):
                Positions of prompts without images and guidance. By default, padding isn't counted. With a cache, pass
                the positions of the new ids or all positions.
            cache (`Cache`, *optional*):
                The cache of an earlier call to continue from. `input_ids` then contains all ids so far followed by the
                new ones, and the images of earlier calls aren't read again. As in transformers, `input_ids` can also
                contain only the new ids if `attention_mask` covers the cache too.
            keep_threshold, keep_ratio, keep_error (`float`, *optional*):
                How many patches of the input images to keep, as in [`~LaVITVisualTokenizer.forward`].
            kwargs:
                Other arguments of transformers' `generate`.

        Returns:
            `torch.LongTensor` of shape `(batch_size, sequence_length + new_tokens)`: The original prompts, with
            unfilled slots, followed by the new ids. With `return_dict_in_generate`, an output class of transformers.
            If images were read, it also contains their `keep_mask`, of shape `(num_images, num_patches)`, and with
            `keep_error`, `rebuild_errors` and `reaches_keep_error`, of shape `(num_images,)`.

        Raises:
            ValueError: If the mode is unknown, a prompt for an image is passed in text mode, guidance is below 1 or
                used in text mode, the numbers of slots and images differ, the negative prompt has a different batch
                size, a prompt ends with padding or exceeds the context length, the cache doesn't fit the prompts, or
                the positions can't be used.
        """
        given = {
            "input_ids": kwargs.pop("inputs", input_ids),
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "cache": cache,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if generation_config is not None and generation_config.is_assistant:
            # The assisted model has already prepared everything.
            return super().generate(
                generation_config=generation_config, logits_processor=logits_processor, **given, **kwargs
            )
        check_generation_mode(generation_mode)
        for name, ids in {"input_ids": given.get("input_ids"), "negative_prompt_ids": negative_prompt_ids}.items():
            if ids is not None:
                check_ids(ids, name)
        keep_settings = check_keep_settings(
            keep_threshold=keep_threshold, keep_ratio=keep_ratio, keep_error=keep_error
        )
        if getattr(self.prepare_inputs_for_generation, "__self__", self) is not self:
            raise ValueError(
                "the model can't generate after prompt learning (prompt tuning, prefix tuning or p-tuning), because "
                "PEFT replaces the method that prepares LaVIT's prompts. Train another type of adapter, such as LoRA."
            )
        given = self._close_prompt(generation_mode, given)
        prompt_length = _prompt_length(given)
        generation_config, kwargs = self._mode_generation_config(
            generation_mode, prompt_length, generation_config, kwargs
        )
        guidance = _take_guidance(generation_config, guidance_scale, generation_mode)
        is_mask_given = "attention_mask" in given
        given = self._complete_prompt(generation_mode, given, generation_config)
        batch_size = len(given["input_ids" if "input_ids" in given else "inputs_embeds"])
        check_generators(generator, batch_size, "prompt")
        self._check_given(given, pixel_values, guidance, generation_config)
        prompt = self._fill_prompt(generation_mode, given, pixel_values, generator, keep_settings)
        if guidance is not None:
            if negative_prompt_ids is not None and negative_prompt_attention_mask is None:
                negative_prompt_attention_mask = self._find_padding(
                    generation_mode, negative_prompt_ids, generation_config
                )
            prompt = self._double_prompt(prompt, negative_prompt_ids, negative_prompt_attention_mask)
            kwargs["guidance"] = guidance
        self._check_prompt(prompt, generation_config, kwargs)
        if is_mask_given:  # without one, transformers warns
            _check_padding(prompt.inputs.get("attention_mask"))
        if not _is_assisted(generation_config, kwargs):  # would also be passed to the assistant
            kwargs["filled_prompt"] = prompt
        processors = self._mode_processors(generation_mode, given, strict_image_tokens)
        processors += logits_processor or []
        if generator is not None:
            kwargs["sampler"] = TokenSampler(generator)
        outputs = super().generate(
            generation_config=generation_config, logits_processor=processors, **prompt.inputs, **kwargs
        )
        if isinstance(outputs, ModelOutput):
            for name, value in prompt.kept.items():
                outputs[name] = value
        return outputs

    def _mode_generation_config(
        self, generation_mode: str, prompt_length: int, generation_config: GenerationConfig | None, kwargs: dict
    ) -> tuple[GenerationConfig, dict]:
        """Returns the mode's defaults, updated by the caller's settings, and the `kwargs` that aren't settings."""
        config = copy.deepcopy(self.generation_config)
        wishes = _take_wishes(generation_config, self.generation_config)
        of_images = wishes.pop("image_generation", {}) | (kwargs.pop("image_generation", None) or {})
        if generation_mode == "image":
            config.update(**(getattr(config, "image_generation", DEFAULT_IMAGE_GENERATION) | of_images))
            config.eos_token_id = self.config.image_end_token_id
        custom = {name: wishes.pop(name) for name in [*wishes] if not hasattr(config, name)}
        wishes |= kwargs
        for bound in ("max", "min"):
            # Lengths count the original prompt; transformers would also count the filled-in images.
            length = wishes.pop(f"{bound}_length", None)
            if length is not None:
                wishes.setdefault(f"{bound}_new_tokens", max(length - prompt_length, 0))
        config.update(**custom, allow_custom_entries=True)
        kwargs = config.update(**wishes)
        # The caller's settings take precedence over defaults.
        if "min_new_tokens" not in wishes and (config.min_new_tokens or 0) > (config.max_new_tokens or math.inf):
            config.min_new_tokens = config.max_new_tokens
        if not config.do_sample:
            config.update(**{name: None for name in SAMPLING_SETTINGS if name not in wishes})
        return config, kwargs

    def _close_prompt(self, generation_mode: str, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """In image mode, appends `[IMG]` to the prompts. In text mode, checks that it isn't there."""
        ids = given.get("input_ids")
        if ids is None or ids.shape[1] == 0:
            return given
        is_open = self._opens_image(_padded_left(ids, given.get("attention_mask")))
        if generation_mode == "text":
            if is_open.any():
                raise ValueError(
                    "the prompts end with an [IMG] that opens an image, but generation_mode is 'text'. Pass "
                    "generation_mode='image', or make the prompts with the processor in text mode."
                )
            return given
        if _past_length(given.get("cache")) and (self._count_codes(ids) == ids.shape[1]).any():
            raise ValueError(
                "the new ids are codes of an image that begins in the cache. Pass all ids so far to continue it."
            )
        if is_open.all():
            return given
        if is_open.any():
            raise ValueError(
                "some of the prompts end with [IMG] and others do not. Make them all with the processor in image mode."
            )
        start = torch.full_like(ids[:, :1], self.config.image_start_token_id)
        closed = given | {"input_ids": torch.cat([ids, start], dim=1)}
        if "inputs_embeds" in given:
            embed = self.get_input_embeddings()(start)
            closed["inputs_embeds"] = torch.cat([given["inputs_embeds"], embed.to(given["inputs_embeds"])], dim=1)
        if "attention_mask" in given:
            mask = given["attention_mask"]
            closed["attention_mask"] = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        return closed

    def _opens_image(self, input_ids: torch.LongTensor) -> torch.Tensor:
        """Returns a mask `(batch_size,)`, true where only codes follow the last `[IMG]`."""
        num_codes = self._count_codes(input_ids)[:, None]
        last = input_ids.gather(1, (input_ids.shape[1] - 1 - num_codes).clamp(min=0))
        return (last == self.config.image_start_token_id).squeeze(1)

    def _count_codes(self, input_ids: torch.LongTensor) -> torch.LongTensor:
        """Returns the numbers of codes at the ends of prompts, `(batch_size,)`."""
        is_code = (input_ids >= self.config.first_code_token_id).long()
        return is_code.flip(1).cumprod(dim=1).sum(dim=1)

    def _complete_prompt(
        self, generation_mode: str, given: dict[str, torch.Tensor], config: GenerationConfig
    ) -> dict[str, torch.Tensor]:
        """Starts an empty prompt, and recognizes padding if there is no mask, both as in transformers."""
        ids = given.get("input_ids")
        is_empty = ids is None or ids.shape[1] == 0
        if is_empty and "inputs_embeds" not in given:
            first_id = config.bos_token_id if generation_mode == "text" else self.config.image_start_token_id
            if first_id is None:
                raise ValueError("there is nothing to continue. Pass input_ids from the processor, or a bos_token_id.")
            device = None if self.device.type == "meta" else self.device  # offloaded weights are on the meta device
            ids = torch.full((1 if ids is None else len(ids), 1), first_id, device=device)
            return {name: value for name, value in given.items() if name != "attention_mask"} | {"input_ids": ids}
        if not is_empty and "attention_mask" not in given:
            mask = self._find_padding(generation_mode, ids, config)
            return given if mask is None else given | {"attention_mask": mask}
        return given

    def _find_padding(
        self, generation_mode: str, input_ids: torch.LongTensor, config: GenerationConfig
    ) -> torch.LongTensor | None:
        """Returns the mask by transformers' rule for texts, or `None` if transformers finds no padding either."""
        pad, ends = config.pad_token_id, self.generation_config.eos_token_id
        if generation_mode == "text":
            ends = config.eos_token_id
        if pad is None or pad in (ends if isinstance(ends, list) else [ends]):
            # In image mode, transformers would take the ends of a text for padding, since [/IMG] ends an image.
            return None if generation_mode == "text" else torch.ones_like(input_ids)
        mask = (input_ids != pad).long()
        return None if mask.all() else mask

    def _check_given(
        self,
        given: dict[str, torch.Tensor],
        pixel_values: torch.FloatTensor | None,
        guidance: float | None,
        config: GenerationConfig,
    ) -> None:
        """Raises a `ValueError` if positions can't be used, or if a cache doesn't fit the batch or guidance."""
        batch_size = given["input_ids" if "input_ids" in given else "inputs_embeds"].shape[0]
        cache = given.get("cache")
        past_length = _past_length(cache)
        if guidance is not None and config.cache_implementation == "quantized" and (config.num_beams or 1) > 1:
            raise ValueError("guidance with beams doesn't work with a quantized cache. Leave out one of the three.")
        if past_length and guidance is not None:
            raise ValueError(
                "guidance runs a second branch, which the cache does not hold. Leave the cache out, or pass "
                "guidance_scale=1."
            )
        num_sequences = count_sequences(cache)
        expected = batch_size * max(config.num_beams or 1, config.num_return_sequences or 1)
        if past_length and num_sequences not in (None, expected):
            raise ValueError(
                f"the cache holds {num_sequences} sequences, but {expected} are to be generated (prompts times "
                f"beams). {_fit_cache_advice(num_sequences, expected)}"
            )
        is_filled = pixel_values is not None or guidance is not None
        if "position_ids" in given and (is_filled or not self.model.takes_positions):
            raise ValueError(
                "position_ids cannot be combined with pixel_values or guidance, whose rows need positions too, nor "
                "passed to a language model without positions. Leave them out."
            )

    def _fill_prompt(
        self,
        generation_mode: str,
        given: dict[str, torch.Tensor],
        pixel_values: torch.FloatTensor | None,
        generator: Generators,
        keep_settings: KeepSettings,
    ) -> FilledPrompt:
        """Fills images into the slots of the prompts, except for the part that is already in the cache."""
        inputs = dict(given)
        prompts = given["input_ids" if "input_ids" in given else "inputs_embeds"]
        batch_size, length = prompts.shape[:2]
        cache = given.get("cache")
        past_length = _past_length(cache)
        past = CachedPrompt.of(cache, past_length)
        num_images = past.count_images(batch_size)
        mask = given.get("attention_mask")
        num_held = _count_held(past, past_length, length, mask)
        pixel_values = self._find_new_images(given, num_held, num_images, pixel_values)
        ids = self._mask_padding(given, num_held)
        mask = past.complete_mask(mask, past_length, batch_size, length - num_held, count_sequences(cache))
        if mask is None and past_length:
            mask = torch.ones(batch_size, past_length + length - num_held, dtype=torch.long, device=prompts.device)
        if mask is not None:
            inputs["attention_mask"] = mask
        new = {name: given[name][:, num_held:] for name in ("input_ids", "inputs_embeds") if name in given}
        kept = {}
        if pixel_values is not None:
            new_mask = None if mask is None else mask[:, past_length:]
            generator = repeat_for_images(generator, self._count_slots(new))
            outputs = self._read_images(generation_mode, pixel_values, generator, keep_settings)
            kept = {name: outputs[name] for name in KEPT if outputs.get(name) is not None}
            filled, codes = self._fill_slots(generation_mode, new, new_mask, outputs)
            inputs |= {
                "inputs_embeds": filled.inputs_embeds,
                "attention_mask": filled.extend_mask(mask, past_length),
            }
            if codes is not None:
                ids = torch.cat([ids[:, :num_held], codes], dim=1)
        elif "inputs_embeds" in new:
            inputs["inputs_embeds"] = new["inputs_embeds"]
        num_images = (num_images or 0) + (0 if pixel_values is None else len(pixel_values))
        num_ids = length if num_held or not past_length else past.count_ids(past_length) + length
        return FilledPrompt(inputs, ids, num_ids, num_images, batch_size, past_length, kept)

    def _count_slots(self, prompt: dict[str, torch.Tensor]) -> list[int]:
        """Counts the image slots of each prompt."""
        ids = prompt["input_ids"] if "input_ids" in prompt else self.model.recover_marks(prompt["inputs_embeds"])
        slots = find_image_slots(ids, self.config.image_start_token_id, self.config.image_end_token_id)
        return slots.sum(dim=1).tolist()

    def _find_new_images(
        self,
        given: dict[str, torch.Tensor],
        num_held: int,
        num_held_images: int | None,
        pixel_values: torch.FloatTensor | None,
    ) -> torch.FloatTensor | None:
        """Returns the images that aren't in the cache, which contains the first `num_held` ids."""
        if "input_ids" not in given and pixel_values is None:
            return None
        ids = given["input_ids"] if "input_ids" in given else self.model.recover_marks(given["inputs_embeds"])
        opens = find_image_slots(ids, self.config.image_start_token_id, self.config.image_end_token_id)
        num_held_slots = int(opens[:, :num_held].sum())
        if num_held and num_held_images not in (None, num_held_slots):
            raise ValueError(
                f"the cache holds {num_held_images} images, but the {num_held} ids of each prompt that it should "
                f"hold have {num_held_slots} image slots. Pass the ids that the cache was made from, followed by the "
                "new ones."
            )
        if pixel_values is None:
            self.model.check_no_slots(ids[:, num_held:])
            return None
        if num_held_slots and len(pixel_values) == int(opens.sum()):
            is_new = opens.nonzero()[:, 1] >= num_held
            pixel_values = pixel_values[is_new.to(pixel_values.device)]
            return pixel_values if len(pixel_values) else None
        return pixel_values

    def _mask_padding(self, given: dict[str, torch.Tensor], num_held: int) -> torch.LongTensor | None:
        """Replaces padding in the ids by the vocabulary size. Without a cache, also moves it to the left."""
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        if ids is None or mask is None:
            return ids
        is_padding = torch.zeros_like(ids, dtype=torch.bool)
        first = 0 if mask.shape == ids.shape else num_held  # the mask covers positions
        is_padding[:, first:] = mask[:, mask.shape[1] - ids.shape[1] + first :] == 0
        ids = ids.masked_fill(is_padding, self.config.text_config.vocab_size)
        return ids if num_held else _padded_left(ids, ~is_padding)

    def _read_images(
        self,
        generation_mode: str,
        pixel_values: torch.FloatTensor,
        generator: Generators,
        keep_settings: KeepSettings,
    ) -> ModelOutput:
        """Reads images as embeddings in text mode or as codes in image mode, along with their kept patches."""
        if generation_mode == "image":
            return self.tokenize_images(pixel_values, generator=generator, **keep_settings)
        return self.get_image_features(pixel_values, generator=generator, return_dict=True, **keep_settings)

    def _fill_slots(
        self,
        generation_mode: str,
        prompt: dict[str, torch.Tensor],
        attention_mask: torch.Tensor | None,
        images: ModelOutput,
    ) -> tuple:
        """Fills images into the slots of the prompts. In image mode, also fills codes into ids, if there are any."""
        if generation_mode == "text":
            return self.model.fill_slots(images.pooler_output, attention_mask=attention_mask, **prompt), None
        codes = [image + self.config.first_code_token_id for image in images.codes]
        rows = [self.get_input_embeddings()(image) for image in codes]
        settings = {"attention_mask": attention_mask, "keep_marks": False}
        filled = self.model.fill_slots(rows, **prompt, **settings)
        if "input_ids" not in prompt:
            return filled, None
        ids = prompt["input_ids"]
        # Treat ids as embeddings of width one.
        of_ids = self.model.fill_slots([image[:, None] for image in codes], ids, ids[..., None], **settings)
        is_padding = of_ids.attention_mask == 0
        return filled, of_ids.inputs_embeds.squeeze(-1).masked_fill(is_padding, self.config.text_config.vocab_size)

    def _double_prompt(
        self,
        filled: FilledPrompt,
        negative_ids: torch.LongTensor | None,
        negative_attention_mask: torch.Tensor | None,
    ) -> FilledPrompt:
        """Doubles the batch: the second half contains the negative prompts of guidance."""
        embed, prompt = self.get_input_embeddings(), filled.inputs
        embeds = prompt["inputs_embeds"] if "inputs_embeds" in prompt else embed(prompt["input_ids"])
        batch_size = embeds.shape[0]
        if negative_ids is None:
            negative_ids = torch.full((batch_size, 1), self.config.image_start_token_id, device=embeds.device)
        negative = {"input_ids": negative_ids, "attention_mask": negative_attention_mask}
        negative = self._close_prompt("image", {name: value for name, value in negative.items() if value is not None})
        negative_ids, negative_attention_mask = negative["input_ids"], negative.get("attention_mask")
        if negative_ids.shape[0] != batch_size:
            raise ValueError(
                f"negative_prompt_ids has {negative_ids.shape[0]} prompts for a batch of {batch_size}. Pass one for "
                "each prompt."
            )
        self.model.check_no_slots(negative_ids)
        branches = (
            *_unpadded(embeds, prompt.get("attention_mask")),
            *_unpadded(embed(negative_ids), negative_attention_mask),
        )
        masks = [torch.ones_like(branch[:, 0], dtype=torch.long) for branch in branches]
        no_ids = torch.zeros(batch_size, 0, dtype=torch.long, device=embeds.device)  # for the original batch size
        doubled = {
            "input_ids": prompt.get("input_ids", no_ids),
            "inputs_embeds": pad_left(branches, 0),
            "attention_mask": pad_left(masks, 0),
        }
        return replace(filled, inputs=prompt | doubled)

    def _check_prompt(self, prompt: FilledPrompt, config: GenerationConfig, kwargs: dict) -> None:
        context = getattr(self.config.text_config, "max_position_embeddings", None)
        if context is not None and prompt.length >= context:
            raise ContextLengthError(
                f"the prompt is {prompt.length} tokens long with its images, but the language model's context ends "
                f"at {context}. Shorten the text or pass fewer images."
            )
        position_ids = prompt.inputs.get("position_ids")
        if position_ids is not None and position_ids.shape[-1] not in (prompt.new_length, prompt.length):
            raise ValueError(
                f"position_ids has shape {tuple(position_ids.shape)} for {prompt.new_length} ids after "
                f"{prompt.past_length} cached positions. Pass one for each id, or for each position."
            )
        is_ids_alone = "inputs_embeds" not in prompt.inputs and not prompt.past_length
        if _is_assisted(config, kwargs) and not is_ids_alone:
            raise ValueError(
                "assisted decoding only works for prompts without images. Leave out images, guidance, the cache or "
                "the assistant."
            )
        if config.prefill_chunk_size is not None and not is_ids_alone:
            raise ValueError(
                "prefill_chunk_size only works for prompts without images, guidance or a cache. Leave it out."
            )

    def _mode_processors(
        self, generation_mode: str, given: dict[str, torch.Tensor], strict_image_tokens: bool
    ) -> LogitsProcessorList:
        allowed = allowed_tokens(self.config, generation_mode, strict_image_tokens)
        processors = LogitsProcessorList([AllowedTokensLogitsProcessor(allowed)])
        if generation_mode == "image":
            begun = torch.zeros(1, dtype=torch.long)
            if "input_ids" in given:
                begun = self._count_codes(_padded_left(given["input_ids"], given.get("attention_mask")))
            longest = _prompt_length(given) + self.config.visual_tokenizer_config.num_patches - begun
            processors.append(ImageEndLogitsProcessor(longest, self.config.image_end_token_id))
        return processors

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        is_first_iteration: bool | None = False,
        guidance: float | None = None,
        filled_prompt: FilledPrompt | None = None,
        sampler: TokenSampler | None = None,
        **kwargs,
    ) -> dict:
        if guidance is not None and not is_first_iteration:
            input_ids = input_ids.repeat(2, 1)  # both branches continue with the chosen token
        if is_first_iteration and filled_prompt is not None and filled_prompt.past_length:
            next_sequence_length = filled_prompt.new_length  # transformers would use the number of ids
        inputs = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length=next_sequence_length,
            inputs_embeds=inputs_embeds,
            is_first_iteration=is_first_iteration,
            guidance=guidance,
            **kwargs,
        )
        ids = inputs["input_ids"]
        if not is_first_iteration and ids is not None and ids.shape[1] > 1:
            # Search the prompt for slots only once, because it waits for the device. New ids have no slots to fill.
            inputs |= {"input_ids": None, "inputs_embeds": self.get_input_embeddings()(ids)}
        if not self.model.takes_positions:
            inputs.pop("position_ids", None)
        return inputs

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs: dict, *args, **kwargs) -> dict:
        prompt, cache = model_kwargs.get("filled_prompt"), outputs.get("cache")
        if prompt is not None and cache is not None:
            cache.cached_prompt = prompt.cached
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)

    def _get_logits_processor(
        self,
        generation_config: GenerationConfig,
        input_ids_seq_length: int | None = None,
        encoder_input_ids: torch.LongTensor | None = None,
        prefix_allowed_tokens_fn: Callable[[int, torch.Tensor], list[int]] | None = None,
        model_kwargs: dict | None = None,
        **kwargs,
    ) -> LogitsProcessorList:
        model_kwargs = dict(model_kwargs or {})
        prompt = model_kwargs.get("filled_prompt")
        if prompt is None:
            return super()._get_logits_processor(
                generation_config,
                input_ids_seq_length,
                encoder_input_ids,
                prefix_allowed_tokens_fn,
                model_kwargs=model_kwargs,
                **kwargs,
            )
        # The mask of the filled prompts, or of the two branches of guidance, doesn't match the ids.
        model_kwargs.pop("attention_mask", None)
        ids = prompt.ids
        if ids is not None and prefix_allowed_tokens_fn is not None:
            prefix_allowed_tokens_fn = partial(
                _allow_tokens,
                prefix_allowed_tokens_fn,
                ids,
                input_ids_seq_length,
                self.config.text_config.vocab_size,
            )
        processors = super()._get_logits_processor(
            generation_config,
            input_ids_seq_length,
            encoder_input_ids if ids is None else ids,
            prefix_allowed_tokens_fn,
            model_kwargs=model_kwargs,
            **kwargs,
        )
        if ids is None:
            return processors
        return LogitsProcessorList(
            PromptLogitsProcessor(processor, ids, input_ids_seq_length)
            if isinstance(processor, READ_PROMPTS)
            else processor
            for processor in processors
        )

    def _sample(self, *args, sampler: TokenSampler | None = None, **kwargs):
        if sampler is None or not kwargs["generation_config"].do_sample:
            return super()._sample(*args, **kwargs)
        return decode_by_sampler(super()._sample, sampler, *args, **kwargs)

    def _assisted_decoding(self, *args, sampler: TokenSampler | None = None, **kwargs):
        if sampler is None or not kwargs["generation_config"].do_sample:
            return super()._assisted_decoding(*args, **kwargs)
        return decode_by_sampler(super()._assisted_decoding, sampler, *args, **kwargs)

    def _beam_search(self, *args, sampler: TokenSampler | None = None, **kwargs):
        with choosing_beams_by(sampler):
            return super()._beam_search(*args, **kwargs)

    def _get_top_k_continuations(
        self, accumulated_log_probs: torch.Tensor, *, do_sample: bool, beams_to_keep: int, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        drawn = draw_beams(accumulated_log_probs, beams_to_keep) if do_sample else None
        return super()._get_top_k_continuations(
            accumulated_log_probs=accumulated_log_probs if drawn is None else drawn,
            do_sample=do_sample and drawn is None,
            beams_to_keep=beams_to_keep,
            **kwargs,
        )

    def _reorder_cache(self, cache: Cache, beam_idx: torch.LongTensor) -> Cache:
        # Beam search doesn't know about the second half of the batch in guidance.
        num_rows = beam_idx.shape[0]
        if count_sequences(cache) == 2 * num_rows:
            beam_idx = torch.cat([beam_idx, beam_idx + num_rows])
        cache.reorder_cache(beam_idx)
        return cache


class AllowedTokensLogitsProcessor(LogitsProcessor):
    """
    Restricts generation to certain ids.

    Args:
        allowed (`torch.BoolTensor` of shape `(vocab_size,)`):
            True for ids that can be generated.
    """

    def __init__(self, allowed: torch.Tensor):
        self.forbidden = ~allowed

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.forbidden = self.forbidden.to(scores.device)  # only copies in the first step
        return scores.masked_fill(self.forbidden, -float("inf"))


class ImageEndLogitsProcessor(LogitsProcessor):
    """
    Ends an image once it has as many codes as there are patches, including those that the prompt begins it with.

    Args:
        longest (`torch.LongTensor` of shape `(batch_size,)` or `(1,)`):
            Length of each prompt with all codes of its image.
        end_token_id (`int`):
            Id of `[/IMG]`.
    """

    def __init__(self, longest: torch.LongTensor, end_token_id: int):
        self.longest = longest.cpu()
        self.shortest = int(longest.min())
        self.end_token_id = end_token_id

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if input_ids.shape[1] < self.shortest:
            return scores
        is_full = (input_ids.shape[1] >= self.longest).repeat_interleave(len(scores) // len(self.longest))
        ended = torch.full_like(scores, -float("inf"))
        ended[:, self.end_token_id] = 0
        return torch.where(is_full[:, None].to(scores.device), ended, scores)


class PromptLogitsProcessor(LogitsProcessor):
    """
    Passes another processor the contents of the prompts, without padding and with codes for images.

    Args:
        processor (`LogitsProcessor`):
            The other processor.
        prompt_ids (`torch.LongTensor` of shape `(batch_size, num_ids)`):
            The ids of the prompts, with the vocabulary size for padding.
        prompt_length (`int`):
            Length of the prompts before the new ids.
    """

    def __init__(self, processor: LogitsProcessor, prompt_ids: torch.LongTensor, prompt_length: int):
        self.processor = processor
        self.prompt_ids = prompt_ids
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        num_beams = input_ids.shape[0] // self.prompt_ids.shape[0]
        prompts = self.prompt_ids.to(input_ids.device).repeat_interleave(num_beams, dim=0)
        ids = torch.cat([prompts, input_ids[:, self.prompt_length :]], dim=1)
        # An extra column receives the scores of padding.
        scores = torch.nn.functional.pad(scores, (0, 1), value=-float("inf"))
        return self.processor(ids, scores)[:, :-1]


def allowed_tokens(config: LaVITConfig, generation_mode: str, strict: bool) -> torch.Tensor:
    """
    Returns the ids that can be generated in a mode.

    Args:
        config (`LaVITConfig`):
            The configuration, which defines the ids.
        generation_mode (`str`):
            `"text"` allows text ids, `"image"` allows codes and `[/IMG]`.
        strict (`bool`):
            If `False`, image mode also allows the text vocabulary's control tokens and `[IMG]`, like the released
            models.

    Returns:
        `torch.BoolTensor` of shape `(vocab_size,)`.
    """
    is_text = torch.arange(config.text_config.vocab_size) < config.text_vocab_size
    if generation_mode == "text":
        return is_text
    allowed = ~is_text
    allowed[config.image_start_token_id] = not strict
    if not strict:
        allowed[: config.num_control_tokens] = True
    return allowed


def guide(logits: torch.Tensor, scale: float) -> torch.Tensor:
    """
    Applies classifier-free guidance to a doubled batch.

    Args:
        logits (`torch.Tensor` of shape `(2 * batch_size, ..., vocab_size)`):
            Logits of the conditional branch in the first half, and of the unconditional branch in the second half.
        scale (`float`):
            1 returns the conditional branch unchanged; higher values move away from the unconditional branch.

    Returns:
        `torch.Tensor` of shape `(batch_size, ..., vocab_size)`: `scale * (cond - uncond) + uncond`, computed on
        log-probabilities in fp32.
    """
    cond, uncond = logits.float().log_softmax(dim=-1).chunk(2)
    return scale * (cond - uncond) + uncond


def check_generation_mode(generation_mode: str) -> None:
    """Raises a `ValueError` if the mode is unknown."""
    if generation_mode not in GENERATION_MODES:
        raise ValueError(
            f"unknown generation_mode {generation_mode!r}. Choose one of {', '.join(map(repr, GENERATION_MODES))}."
        )


def agree_on_mode(**told: str | None) -> str | None:
    """
    Determines a mode that can be set in several places.

    Args:
        told (`str`, *optional*):
            The mode in each place, or `None` if it isn't set there.

    Returns:
        `str` or `None`: The mode, if it is set at all.

    Raises:
        ValueError: If the mode is unknown, or if two places contradict each other.
    """
    told = {place: mode for place, mode in told.items() if mode is not None}
    for mode in told.values():
        check_generation_mode(mode)
    if len(set(told.values())) > 1:
        places = " and ".join(f"{mode!r} by {place}" for place, mode in told.items())
        raise ValueError(f"the generation_mode is contradictory ({places}). Set it in one place.")
    return next(iter(told.values()), None)


def _check_padding(attention_mask: torch.Tensor | None) -> None:
    """Raises a `ValueError` if prompts are padded on the right."""
    if attention_mask is not None and not attention_mask[:, -1].all():
        raise ValueError(
            "some prompts end with padding, but new ids follow the last one. Pad them on the left, as the processor "
            "does with padding_side='left'."
        )


def _padded_left(ids: torch.LongTensor, attention_mask: torch.Tensor | None) -> torch.LongTensor:
    """Moves the padding of ids to the left. Ids stay as they are if their mask has another shape, as with a cache."""
    if attention_mask is None or attention_mask.shape != ids.shape:
        return ids
    return ids.gather(1, attention_mask.bool().to(torch.uint8).argsort(dim=1, stable=True))


def _prompt_length(given: dict[str, torch.Tensor]) -> int:
    """Number of ids before the new ones in the output of `generate`. Empty prompts get one id to start from."""
    length = given["input_ids"].shape[1] if "input_ids" in given else 0
    return length if length or "inputs_embeds" in given else 1


def _take_wishes(given: GenerationConfig | None, own: GenerationConfig) -> dict:
    """Returns the settings of `given`. If it is a copy of the model's own config, returns only what was changed."""
    if given is None:
        return {}
    wishes = {name: value for name, value in vars(given).items() if value is not None and not name.startswith("_")}
    defaults = {name: value for name, value in vars(own).items() if value is not None}
    # A config created by hand lacks some of the model's defaults. All of its values were set on purpose.
    is_copy = all(getattr(given, name, None) is not None for name in defaults)
    return {name: value for name, value in wishes.items() if not is_copy or defaults.get(name) != value}


def _past_length(cache: Cache | None) -> int:
    return 0 if cache is None else int(cache.get_seq_length())


def _fit_cache_advice(num_sequences: int, expected: int) -> str:
    if num_sequences < expected:
        return "To enlarge the cache, call its batch_repeat_interleave."
    return "To select sequences of the cache, call its batch_select_indices."


def _count_held(past: CachedPrompt, past_length: int, length: int, attention_mask: torch.Tensor | None) -> int:
    """Counts how many of the `length` input ids are in the cache."""
    follow_alone = attention_mask is not None and attention_mask.shape[1] == past_length + length
    if past_length == 0 or follow_alone:
        return 0
    num_held = past.count_ids(past_length)
    if length <= num_held:
        raise ValueError(
            f"the cache holds {num_held} ids of each prompt, but only {length} were passed. Pass all ids so far "
            "followed by the new ones, or only the new ones with an attention_mask that covers the cache too."
        )
    return num_held


def _is_assisted(config: GenerationConfig, kwargs: dict) -> bool:
    return bool(config.prompt_lookup_num_tokens) or kwargs.get("assistant_model") is not None


def _allow_tokens(
    allow: Callable[[int, torch.Tensor], list[int]],
    prompt_ids: torch.LongTensor,
    prompt_length: int,
    vocab_size: int,
    batch_id: int,
    sequence: torch.LongTensor,
) -> list[int]:
    """Calls the caller's `prefix_allowed_tokens_fn` on a sequence without padding."""
    prompt = prompt_ids[batch_id].to(sequence.device)
    return allow(batch_id, torch.cat([prompt[prompt != vocab_size], sequence[prompt_length:]]))


def _take_guidance(config: GenerationConfig, guidance_scale: float | None, generation_mode: str) -> float | None:
    """Removes the scale from `config`, because transformers would run two passes. `None` if there is no guidance."""
    scale = config.guidance_scale if guidance_scale is None else guidance_scale
    config.guidance_scale = 1.0  # transformers would replace None by the model's own
    if scale is None or scale == 1:
        return None
    if not isinstance(scale, Real) or not 1 <= scale < math.inf:  # also if it is NaN
        raise ValueError(f"guidance_scale must be 1 (no guidance) or more, got {scale!r}.")
    if generation_mode != "image":
        raise ValueError(f"guidance_scale ({scale}) only works in image mode. Pass generation_mode='image'.")
    return float(scale)


def _unpadded(embeds: torch.Tensor, attention_mask: torch.Tensor | None) -> list[torch.Tensor]:
    if attention_mask is None:
        return list(embeds)
    return [sample[mask.bool()] for sample, mask in zip(embeds, attention_mask, strict=True)]

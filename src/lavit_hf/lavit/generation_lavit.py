# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generation in two modalities: which ids may follow, images in prompts, and guidance in one pass."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import Cache, GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList

from .configuration_lavit import LaVITConfig
from .modeling_layers import pad_left


GENERATION_MODES = ("text", "image")

# Image generation as released: sampling with guidance (LaVIT-7B's values).
DEFAULT_IMAGE_GENERATION = {
    "do_sample": True,
    "num_beams": 1,
    "top_k": 50,
    "top_p": 1.0,
    "min_new_tokens": 20,
    "max_new_tokens": 200,
    "guidance_scale": 4.0,
}


class LaVITGenerationMixin(GenerationMixin):
    """Gives [`LaVITForCausalLM`] a `generate` that writes text or an image."""

    @torch.no_grad()
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
            inputs_embeds (`torch.FloatTensor` of shape `(batch_size, sequence_length, hidden_size)`, *optional*):
                Embeddings of the prompts in place of their ids.
            negative_prompt_ids (`torch.LongTensor` of shape `(batch_size, negative_length)`, *optional*):
                What guidance leads away from, made by the processor in image mode. `[IMG]` alone by default.
            negative_prompt_attention_mask (`torch.Tensor` of shape `(batch_size, negative_length)`, *optional*):
                Zero where there is padding.
            strict_image_tokens (`bool`, *optional*, defaults to `True`):
                Whether image mode allows nothing but codes and `[/IMG]`. The released models also let control tokens
                and `[IMG]` through; `False` reproduces that.
            generation_config (`GenerationConfig`, *optional*):
                As in transformers. What it has in common with the model's own is taken for the mode's to decide.
            logits_processor (`LogitsProcessorList`, *optional*):
                The caller's own processors, run after the mode's.
            generator (`torch.Generator`, *optional*):
                Source of all draws, the selector's and those of sampling. The global random state is then left alone.
            kwargs:
                Everything else that transformers' `generate` takes.

        Returns:
            `torch.LongTensor` of shape `(batch_size, sequence_length + new_tokens)`: the prompts as they were given,
            slots unfilled, and the new ids; or transformers' output class where `return_dict_in_generate` is set.

        Raises:
            ValueError: On an unknown mode, guidance below 1 or in text mode, slots and images that differ in number,
                a negative prompt of another batch size, or a prompt beyond the context length.
        """
        check_generation_mode(generation_mode)
        prompt = {
            "input_ids": kwargs.pop("inputs", input_ids),
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask,
        }
        prompt = {name: value for name, value in prompt.items() if value is not None}
        prompt_length = _prompt_length(prompt)
        generation_config, kwargs = self._mode_generation_config(
            generation_mode, prompt_length, generation_config, kwargs
        )
        guidance = _take_guidance(generation_config, guidance_scale, generation_mode)
        prompt = self._fill_prompt(generation_mode, prompt, pixel_values, generator)
        if guidance is not None:
            prompt = self._double_prompt(prompt, negative_prompt_ids, negative_prompt_attention_mask)
            prompt["guidance"] = guidance
        self._check_prompt(prompt, generation_config, kwargs)
        processors = self._mode_processors(generation_mode, prompt_length, strict_image_tokens)
        processors += logits_processor or []
        # Offloaded weights are on no device that draws.
        device = self.device if self.device.type != "meta" else next(iter(prompt.values())).device
        with seeded(generator, device):
            return super().generate(
                generation_config=generation_config, logits_processor=processors, **prompt, **kwargs
            )

    def _mode_generation_config(
        self, generation_mode: str, prompt_length: int, generation_config: GenerationConfig | None, kwargs: dict
    ) -> tuple[GenerationConfig, dict]:
        """The mode's defaults under the caller's wishes, and those of `kwargs` that are no settings."""
        config = copy.deepcopy(self.generation_config)
        if generation_mode == "image":
            config.update(**getattr(config, "image_generation", DEFAULT_IMAGE_GENERATION))
            config.eos_token_id = self.config.image_end_token_id
        own = self.generation_config.to_diff_dict()
        wishes = {} if generation_config is None else generation_config.to_diff_dict()
        wishes = {name: value for name, value in wishes.items() if name not in own or own[name] != value} | kwargs
        for bound in ("max", "min"):
            # Lengths count the prompt as it was given; transformers would count its images as well.
            length = wishes.pop(f"{bound}_length", None)
            if length is not None:
                wishes.setdefault(f"{bound}_new_tokens", max(length - prompt_length, 0))
        kwargs = config.update(**wishes)
        if "min_new_tokens" not in wishes and (config.min_new_tokens or 0) > (config.max_new_tokens or math.inf):
            config.min_new_tokens = config.max_new_tokens  # a default gives way to what the caller asked for
        return config, kwargs

    def _fill_prompt(
        self,
        generation_mode: str,
        prompt: dict[str, torch.Tensor],
        pixel_values: torch.FloatTensor | None,
        generator: torch.Generator | None,
    ) -> dict[str, torch.Tensor]:
        """The prompt with the images in their slots."""
        if pixel_values is None:
            self.model.check_no_slots(prompt.get("input_ids"))
            return prompt
        if generation_mode == "text":
            rows = self.get_image_features(pixel_values, generator=generator).pooler_output
        else:
            tokens = self.get_image_tokens(pixel_values, generator=generator)
            rows = [self.get_input_embeddings()(image[1:-1]) for image in tokens]
        filled = self.model.fill_slots(image_rows=rows, keep_marks=generation_mode == "text", **prompt)
        return prompt | {"inputs_embeds": filled.inputs_embeds, "attention_mask": filled.attention_mask}

    def _double_prompt(
        self,
        prompt: dict[str, torch.Tensor],
        negative_ids: torch.LongTensor | None,
        negative_attention_mask: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """The prompts and, in a second half of the batch, what guidance leads away from."""
        embed = self.get_input_embeddings()
        embeds = prompt["inputs_embeds"] if "inputs_embeds" in prompt else embed(prompt["input_ids"])
        batch_size = embeds.shape[0]
        if negative_ids is None:
            negative_ids = torch.full((batch_size, 1), self.config.image_start_token_id, device=embeds.device)
        if negative_ids.shape[0] != batch_size:
            raise ValueError(
                f"negative_prompt_ids hold {negative_ids.shape[0]} prompts for a batch of {batch_size}: "
                "give one for each prompt."
            )
        self.model.check_no_slots(negative_ids)
        branches = (
            *_unpadded(embeds, prompt.get("attention_mask")),
            *_unpadded(embed(negative_ids), negative_attention_mask),
        )
        masks = [torch.ones_like(branch[:, 0], dtype=torch.long) for branch in branches]
        no_ids = torch.zeros(batch_size, 0, dtype=torch.long, device=embeds.device)  # tells the undoubled batch size
        return {
            "input_ids": prompt.get("input_ids", no_ids),
            "inputs_embeds": pad_left(branches, 0),
            "attention_mask": pad_left(masks, 0),
        }

    def _check_prompt(self, prompt: dict[str, torch.Tensor], config: GenerationConfig, kwargs: dict) -> None:
        length = prompt["inputs_embeds" if "inputs_embeds" in prompt else "input_ids"].shape[1]
        context = getattr(self.config.text_config, "max_position_embeddings", None)
        if context is not None and length >= context:
            raise ValueError(
                f"the prompt is {length} tokens long with its images, but the language model's context "
                f"ends at {context}: shorten the text or give fewer images."
            )
        assisted = config.prompt_lookup_num_tokens or kwargs.get("assistant_model") is not None
        if assisted and "inputs_embeds" in prompt:
            raise ValueError(
                "assisted decoding works for prompts of ids alone: leave out images, guidance or the assistant."
            )

    def _mode_processors(
        self, generation_mode: str, prompt_length: int, strict_image_tokens: bool
    ) -> LogitsProcessorList:
        allowed = allowed_tokens(self.config, generation_mode, strict_image_tokens)
        processors = LogitsProcessorList([AllowedTokensLogitsProcessor(allowed)])
        if generation_mode == "image":
            num_patches = self.config.visual_tokenizer_config.num_patches
            processors.append(ImageEndLogitsProcessor(prompt_length, num_patches, self.config.image_end_token_id))
        return processors

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
        # Beam search knows nothing of guidance's second half of the batch. Not every kind of layer has keys.
        keys = next((keys for layer in cache.layers if (keys := getattr(layer, "keys", None)) is not None), None)
        num_rows = beam_idx.shape[0]
        if keys is not None and keys.shape[0] == 2 * num_rows:
            beam_idx = torch.cat([beam_idx, beam_idx + num_rows])
        cache.reorder_cache(beam_idx)
        return cache


class AllowedTokensLogitsProcessor(LogitsProcessor):
    """
    Lets only some ids be generated.

    Args:
        allowed (`torch.BoolTensor` of shape `(vocab_size,)`):
            True for the ids that may be generated.
    """

    def __init__(self, allowed: torch.Tensor):
        self.forbidden = ~allowed

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.forbidden = self.forbidden.to(scores.device)  # copied at the first step only
        return scores.masked_fill(self.forbidden, -float("inf"))


class ImageEndLogitsProcessor(LogitsProcessor):
    """
    Ends an image that has as many codes as there are patches.

    Args:
        prompt_length (`int`):
            Length of the prompts, `[IMG]` included.
        num_patches (`int`):
            Largest number of codes.
        end_token_id (`int`):
            Id of `[/IMG]`.
    """

    def __init__(self, prompt_length: int, num_patches: int, end_token_id: int):
        self.longest = prompt_length + num_patches
        self.end_token_id = end_token_id

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if input_ids.shape[1] < self.longest:
            return scores
        ended = torch.full_like(scores, -float("inf"))
        ended[:, self.end_token_id] = 0
        return ended


def allowed_tokens(config: LaVITConfig, generation_mode: str, strict: bool) -> torch.Tensor:
    """
    The ids that a mode may generate.

    Args:
        config (`LaVITConfig`):
            Names the ids.
        generation_mode (`str`):
            `"text"` allows text ids, `"image"` codes and `[/IMG]`.
        strict (`bool`):
            Where `False`, image mode also lets through what the released models let through: the text vocabulary's
            control tokens and `[IMG]`.

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
    Classifier-free guidance of a doubled batch.

    Args:
        logits (`torch.Tensor` of shape `(2 * batch_size, ..., vocab_size)`):
            The conditional branch's logits in the first half, the unconditional one's in the second.
        scale (`float`):
            One leaves the conditional branch as it is, more leads away from the unconditional one.

    Returns:
        `torch.Tensor` of shape `(batch_size, ..., vocab_size)`: `scale * (cond - uncond) + uncond` over
        log-probabilities, in fp32.
    """
    cond, uncond = logits.float().log_softmax(dim=-1).chunk(2)
    return scale * (cond - uncond) + uncond


def check_generation_mode(generation_mode: str) -> None:
    """Raises a `ValueError` for an unknown mode."""
    if generation_mode not in GENERATION_MODES:
        raise ValueError(
            f"unknown generation_mode {generation_mode!r}: choose one of {', '.join(map(repr, GENERATION_MODES))}."
        )


def _prompt_length(prompt: dict[str, torch.Tensor]) -> int:
    """Number of ids in front of the new ones in what `generate` returns."""
    if "input_ids" in prompt:
        return prompt["input_ids"].shape[1]
    if "inputs_embeds" not in prompt:
        raise ValueError("there is nothing to go on from: pass input_ids, as the processor makes them.")
    return 0


def _take_guidance(config: GenerationConfig, guidance_scale: float | None, generation_mode: str) -> float | None:
    """Takes guidance out of `config`, since transformers' own runs two passes. `None` where there is none to do."""
    scale = config.guidance_scale if guidance_scale is None else guidance_scale
    config.guidance_scale = 1.0  # None would be filled up again from the model's own
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


@contextmanager
def seeded(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """
    Draws inside come from `generator`, and the caller's global random state is afterwards what it was before.

    One number is drawn from the generator and seeds the global generators of the CPU and of `device`. Apple's MPS
    backend has no state that can be put back: it is seeded, and stays so.

    Args:
        generator (`torch.Generator`, *optional*):
            The source. Without it nothing is done, and draws come from the global state as usual.
        device (`torch.device`):
            Where the draws are made.
    """
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
        return
    accelerator = torch.get_device_module(device)
    forked = range(accelerator.device_count()) if device.type != "mps" else ()
    with torch.random.fork_rng(forked, device_type=device.type):
        torch.default_generator.manual_seed(seed)
        getattr(accelerator, "manual_seed_all", accelerator.manual_seed)(seed)
        yield

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The language model's half of the pipeline: from texts and images to prompts, image tokens and codes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList
from transformers.image_utils import ImageInput
from transformers.processing_utils import Unpack

from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.generation_lavit import DEFAULT_IMAGE_GENERATION
from ..lavit.keep_settings import KeepSettings
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.modeling_layers import find_image_slots, pad_left
from ..lavit.processing_lavit import LaVITProcessor
from ..lavit.token_sampling import Generators, check_generators, is_shared, spawn_generator
from .offloading import awake, is_offloaded
from .progress import WRITING, named_progress_bar


# Arguments of `generate` that the pipeline sets itself, and the alternatives.
TAKEN_ARGUMENTS = {
    "attention_mask": "the processor makes it",
    "generation_config": "pass its settings individually",
    "generation_mode": "the pipeline writes images",
    "generator": "pass it directly to the pipeline",
    "input_ids": "pass a prompt to the pipeline",
    "inputs_embeds": "pass a prompt to the pipeline",
    "max_length": "pass max_new_tokens",
    "negative_prompt_attention_mask": "pass negative_prompt to the pipeline",
    "negative_prompt_ids": "pass negative_prompt to the pipeline",
    "num_return_sequences": "pass num_images_per_prompt to the pipeline",
    "pixel_values": "pass images to the pipeline",
    "return_dict_in_generate": "the pipeline only needs the ids",
}


# From texts and images to prompts.


@dataclass
class ImagePrompt:
    """
    A prompt for one image.

    Args:
        input_ids (`torch.LongTensor` of shape `(sequence_length,)`):
            Token ids without padding, with a slot for each image and `[IMG]` at the end.
        pixel_values (`torch.FloatTensor` of shape `(num_images, num_channels, image_size, image_size)`, *optional*):
            Images of the prompt.
        negative_ids (`torch.LongTensor` of shape `(negative_length,)`, *optional*):
            Token ids of the negative prompt.
    """

    input_ids: torch.Tensor
    pixel_values: torch.Tensor | None = None
    negative_ids: torch.Tensor | None = None


def make_prompts(
    processor: LaVITProcessor,
    prompt: str | list[str] | None,
    images: ImageInput | list | None = None,
    negative_prompt: str | list[str] | None = None,
) -> list[ImagePrompt]:
    """
    Creates prompts from texts and images.

    Args:
        processor (`LaVITProcessor`):
            Determines which image belongs to which text, and where.
        prompt (`str` or `list[str]`, *optional*):
            Prompts as for the processor.
        images (`ImageInput` or `list`, *optional*):
            Images as for the processor.
        negative_prompt (`str` or `list[str]`, *optional*):
            One for all prompts, or one for each.

    Returns:
        `list[ImagePrompt]`.

    Raises:
        ValueError: If the processor rejects the prompts, or the numbers of negative prompts and prompts differ.
    """
    tokenizer = processor.tokenizer
    inputs = processor(text=prompt, images=images, generation_mode="image")
    rows = [ids[mask.bool()] for ids, mask in zip(inputs.input_ids, inputs.attention_mask, strict=True)]
    slots = find_image_slots(inputs.input_ids, tokenizer.image_start_token_id, tokenizer.image_end_token_id)
    pixel_values = [None] * len(rows)
    if "pixel_values" in inputs:
        pixel_values = [part if len(part) else None for part in inputs.pixel_values.split(slots.sum(dim=1).tolist())]
    negatives = _negative_ids(processor, negative_prompt, len(rows))
    return [ImagePrompt(*parts) for parts in zip(rows, pixel_values, negatives, strict=True)]


def collate_prompts(prompts: Sequence[ImagePrompt], pad_token_id: int) -> dict[str, torch.Tensor]:
    """The inputs of [`~LaVITForCausalLM.generate`] for a batch of prompts, padded on the left."""
    inputs = _pad([prompt.input_ids for prompt in prompts], pad_token_id, "input_ids", "attention_mask")
    pixel_values = [prompt.pixel_values for prompt in prompts if prompt.pixel_values is not None]
    if pixel_values:
        inputs["pixel_values"] = torch.cat(pixel_values)
    if prompts[0].negative_ids is not None:
        negatives = [prompt.negative_ids for prompt in prompts]
        inputs |= _pad(negatives, pad_token_id, "negative_prompt_ids", "negative_prompt_attention_mask")
    return inputs


def _negative_ids(
    processor: LaVITProcessor, negative_prompt: str | list[str] | None, num_prompts: int
) -> list[torch.Tensor | None]:
    if negative_prompt is None:
        return [None] * num_prompts
    texts = [negative_prompt] * num_prompts if isinstance(negative_prompt, str) else list(negative_prompt)
    if len(texts) != num_prompts:
        raise ValueError(
            f"there are {len(texts)} negative prompts for {num_prompts} prompts. Pass one, or one for each."
        )
    start = torch.tensor([processor.tokenizer.image_start_token_id])  # the only id of an empty prompt
    return [processor(text=text, generation_mode="image").input_ids[0] if text else start for text in texts]


def _pad(rows: list[torch.Tensor], pad_token_id: int, name: str, mask_name: str) -> dict[str, torch.Tensor]:
    return {name: pad_left(rows, pad_token_id), mask_name: pad_left([torch.ones_like(row) for row in rows], 0)}


# From prompts to image tokens.


class ImageTokensMixin:
    """
    Adds the stages up to image tokens to a `DiffusionPipeline` with the components `language_model`, `processor` and
    `detokenizer`.
    """

    @torch.no_grad()
    def tokenize_images(
        self, images: ImageInput | list, generator: Generators = None, **keep_settings: Unpack[KeepSettings]
    ) -> list[torch.Tensor]:
        """
        Turns images into image tokens.

        Args:
            images (`ImageInput` or `list`):
                The images.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for patch selection.
            keep_settings:
                `keep_threshold`, `keep_ratio` or `keep_error`, as in [`~LaVITVisualTokenizer.forward`].

        Returns:
            `list[torch.LongTensor]`: the token ids of each image, `(kept + 2,)`, including `[IMG]` and `[/IMG]`.

        Raises:
            ValueError: If `keep_error` is passed with `enable_model_cpu_offload`, which keeps one model at a time on
                the device, while the search needs the detokenizer beside the visual tokenizer.
        """
        if keep_settings.get("keep_error") is not None and is_offloaded(self):
            raise ValueError(
                "keep_error needs the detokenizer beside the visual tokenizer, and enable_model_cpu_offload keeps one "
                "model at a time on the device. Pass keep_ratio, or call remove_all_hooks first."
            )
        model = self._awake_language_model("turn images into tokens")
        pixel_values = self.processor.image_processor(images, return_tensors="pt").pixel_values
        check_generators(generator, len(pixel_values))
        device, dtype = self._execution_device, model.dtype
        tokens = []
        for batch, source in _batches(pixel_values, generator):
            # As in `generate`, the number of random values used here does not affect later stages.
            draws = spawn_generator(source, device)
            tokens += model.get_image_tokens(batch.to(device, dtype), generator=draws, **keep_settings)
        return tokens

    @torch.no_grad()
    def generate_image_tokens(
        self,
        prompt: str | list[str] | None = None,
        images: ImageInput | list | None = None,
        negative_prompt: str | list[str] | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        generation_kwargs: dict[str, Any] | None = None,
    ) -> list[torch.Tensor]:
        """
        Generates image tokens with the language model.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                What to generate.
            images (`ImageInput` or `list`, *optional*):
                Images for the prompts.
            negative_prompt (`str` or `list[str]`, *optional*):
                What guidance steers away from.
            guidance_scale (`float`, *optional*):
                Guidance scale of the language model.
            num_images_per_prompt (`int`, *optional*, defaults to 1):
                Number of images per prompt.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for patch selection and sampling; see [`~LaVITPipeline.__call__`].
            generation_kwargs (`dict`, *optional*):
                Further arguments of [`~LaVITForCausalLM.generate`].

        Returns:
            `list[torch.LongTensor]`: the token ids of each image, `(num_tokens,)`: `[IMG]`, codes and, if it was
            reached, `[/IMG]`. Images are grouped by prompt.
        """
        _check_generation_kwargs(generation_kwargs or {})
        model = self._awake_language_model("write images")
        prompts = make_prompts(self.processor, prompt, images, negative_prompt)
        prompts = [prompt for prompt in prompts for _ in range(num_images_per_prompt)]
        check_generators(generator, len(prompts))
        settings = {"guidance_scale": guidance_scale, **(generation_kwargs or {})}
        settings["max_new_tokens"] = max_new_tokens = self._max_new_tokens(settings)
        batches = list(_batches(prompts, generator))
        tokens = []
        with named_progress_bar(self, WRITING, len(batches) * max_new_tokens) as progress_bar:
            criteria = [*(settings.get("stopping_criteria") or ()), _Progress(progress_bar)]
            settings["stopping_criteria"] = StoppingCriteriaList(criteria)
            for number, (batch, source) in enumerate(batches, start=1):
                tokens += self._write_images(model, batch, settings, source)
                progress_bar.update(number * max_new_tokens - progress_bar.n)  # tokens not needed after [/IMG]
        return tokens

    def _awake_language_model(self, purpose: str) -> LaVITForCausalLM:
        if self.language_model is None:
            raise ValueError(
                f"the pipeline has no language model to {purpose}. Load it with one, or pass image_token_ids."
            )
        return awake(self.language_model)  # `generate` and `get_image_tokens` use weights before `forward`

    def _max_new_tokens(self, settings: dict[str, Any]) -> int:
        """The requested or stored value, limited to the number of places in the detokenizer."""
        limit = self.detokenizer.config.num_patches
        if settings.get("max_new_tokens") is None:
            stored = getattr(self.language_model.generation_config, "image_generation", DEFAULT_IMAGE_GENERATION)
            return min(stored.get("max_new_tokens", limit), limit)
        if settings["max_new_tokens"] > limit:
            raise ValueError(
                f"max_new_tokens is {settings['max_new_tokens']}, but an image has at most {limit} codes."
            )
        return settings["max_new_tokens"]

    def _write_images(
        self,
        model: LaVITForCausalLM,
        prompts: list[ImagePrompt],
        settings: dict[str, Any],
        generator: torch.Generator | None,
    ) -> list[torch.Tensor]:
        inputs = collate_prompts(prompts, self.processor.tokenizer.pad_token_id)
        inputs = {name: tensor.to(self._execution_device) for name, tensor in inputs.items()}
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        sequences = model.generate(**inputs, generation_mode="image", generator=generator, **settings)
        start = inputs["input_ids"].shape[1] - 1  # the [IMG] that ends the prompt
        return [_cut_out(sequence[start:], model.config) for sequence in sequences]


def _check_generation_kwargs(generation_kwargs: dict[str, Any]) -> None:
    taken = [name for name in TAKEN_ARGUMENTS if name in generation_kwargs]
    if taken:
        raise ValueError(f"generation_kwargs cannot hold {taken[0]}: {TAKEN_ARGUMENTS[taken[0]]}.")


class _Progress(StoppingCriteria):
    """Advances a progress bar and never stops generation."""

    def __init__(self, progress_bar):
        self.progress_bar = progress_bar

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        self.progress_bar.update()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _batches(items: Sequence, generator: Generators) -> Iterator[tuple[Sequence, torch.Generator | None]]:
    """Yields all items at once, or one at a time if each has its own generator."""
    if is_shared(generator):
        yield items, generator
        return
    for number, source in enumerate(generator):
        yield items[number : number + 1], source


def _cut_out(ids: torch.Tensor, config: LaVITConfig) -> torch.Tensor:
    """Cuts ids after the first `[/IMG]` and drops any further `[IMG]`, which non-strict generation may produce."""
    ids = torch.cat([ids[:1], ids[1:][ids[1:] != config.image_start_token_id]])
    ends = (ids == config.image_end_token_id).nonzero()
    return ids[: int(ends[0]) + 1] if len(ends) else ids


# From image tokens to codes.


def find_codes(
    image_token_ids: torch.Tensor | Sequence[int], tokenizer: PreTrainedTokenizerBase, codebook_size: int
) -> torch.Tensor:
    """
    Extracts the codes of an image from its token ids.

    Args:
        image_token_ids (`torch.LongTensor` or `Sequence[int]` of shape `(sequence_length,)`):
            Token ids as returned by `get_image_tokens` and `generate`. The image starts after the last `[IMG]`, which
            skips any prompt, and ends at `[/IMG]`. Both marks are optional.
        tokenizer (`PreTrainedTokenizerBase`):
            LaVIT's tokenizer, which has the ids of `[IMG]` and `[/IMG]`. The id of code 0 directly follows them.
        codebook_size (`int`):
            Number of codes.

    Returns:
        `torch.LongTensor` of shape `(kept,)`, with values in `[0, codebook_size)`.

    Raises:
        ValueError: If the ids contain no code, or an id that is neither a code nor a special token.
    """
    ids = torch.as_tensor(image_token_ids)
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex():
        raise ValueError(
            f"the ids of an image must be a 1-D tensor of integers, got {ids.dtype} of shape {tuple(ids.shape)}."
        )
    ids = _cut_out_image(ids, tokenizer.image_start_token_id, tokenizer.image_end_token_id)
    codes = ids - (tokenizer.image_end_token_id + 1)
    is_code = (codes >= 0) & (codes < codebook_size)
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    if (foreign := ids[~(is_code | special)]).numel():
        first_code = tokenizer.image_end_token_id + 1
        raise ValueError(
            f"id {int(foreign[0])} is not an image token: codes have the ids {first_code} to "
            f"{first_code + codebook_size - 1}."
        )
    if not is_code.any():
        raise ValueError("the ids contain no code, but an image needs at least one.")
    return codes[is_code]


def _cut_out_image(ids: torch.Tensor, start_id: int, end_id: int) -> torch.Tensor:
    starts = (ids == start_id).nonzero()
    if len(starts):
        ids = ids[int(starts[-1]) + 1 :]
    ends = (ids == end_id).nonzero()
    return ids[: int(ends[0])] if len(ends) else ids


__all__ = ["ImageTokensMixin", "find_codes"]

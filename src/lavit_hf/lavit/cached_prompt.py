# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What a cache holds: images make it longer than the ids it was made from, which the cache itself cannot tell."""

from dataclasses import dataclass

import torch
from transformers import Cache


@dataclass
class CachedPrompt:
    """
    Lies on a cache as its attribute `cached_prompt`, and goes with its copies. What was generated behind the prompts
    has one position for each id.

    Args:
        length (`int`, *optional*, defaults to 0):
            Number of positions of the prompts, images in their slots.
        num_inserted (`int`, *optional*, defaults to 0):
            How many more they are than the ids of the prompts.
        num_images (`int`, *optional*, defaults to 0):
            Number of images in the prompts of the whole batch.
        batch_size (`int`, *optional*, defaults to 1):
            Number of prompts. The cache holds more sequences where each is written on in several ways.
        attention_mask (`torch.LongTensor` of shape `(batch_size, length)`, *optional*):
            Zero where there is padding. `None` where there is none.
    """

    length: int = 0
    num_inserted: int = 0
    num_images: int = 0
    batch_size: int = 1
    attention_mask: torch.Tensor | None = None

    @classmethod
    def of(cls, cache: Cache | None, past_length: int | None) -> "CachedPrompt":
        """What `cache` holds, of which `past_length` positions are filled. A cache may have been emptied since."""
        note = getattr(cache, "cached_prompt", None) if past_length else None
        return cls() if note is None else note

    def count_ids(self, past_length: int) -> int:
        """
        Number of ids, padding included, behind the first `past_length` positions.

        Raises:
            ValueError: If these end within a prompt with images.
        """
        if self.num_inserted and past_length < self.length:
            raise ValueError(
                f"the cache was cut to {past_length} positions, inside prompts of {self.length} positions including "
                "their images. Cut it after the prompts, or start without a cache."
            )
        return past_length - self.num_inserted

    def complete_mask(
        self,
        attention_mask: torch.Tensor | None,
        past_length: int,
        batch_size: int,
        new_length: int,
        num_sequences: int | None = None,
    ) -> torch.Tensor | None:
        """
        A mask of all positions, those in the cache and those that follow.

        Args:
            attention_mask (`torch.Tensor`, *optional*):
                Of the new ids alone, of all ids so far, or of all positions so far.
            past_length (`int`):
                Number of positions in the cache.
            batch_size (`int`):
                Number of prompts.
            new_length (`int`):
                Number of ids that are not in the cache.
            num_sequences (`int`, *optional*):
                What [`count_sequences`] says of the cache.

        Returns:
            `torch.Tensor` of shape `(batch_size, past_length + new_length)`, or `None` where nothing is known of any
            padding.

        Raises:
            ValueError: If the mask has another length.
        """
        given = None if attention_mask is None else attention_mask.shape[1]
        if given == past_length + new_length or (given is not None and past_length == 0 and given > new_length):
            return attention_mask  # caches of recurrent layers have no length
        past_mask = self._past_mask(past_length, batch_size, num_sequences or batch_size)
        if given is None:
            return None if past_mask is None else _extend(past_mask, past_length + new_length)
        if given != new_length:
            num_ids = self.count_ids(past_length)
            if given != num_ids + new_length:
                raise ValueError(
                    f"attention_mask has shape {tuple(attention_mask.shape)} for prompts of shape "
                    f"{(batch_size, new_length)} after a cache of {past_length} positions. It must cover the "
                    "prompts, or the cache and the prompts."
                )
            num_prompt_ids = self.length - self.num_inserted
            attention_mask = attention_mask[:, num_prompt_ids:]
            past_length = self.length
        if past_mask is None:
            past_mask = attention_mask.new_ones(batch_size, past_length)
        return torch.cat([past_mask[:, :past_length].to(attention_mask), attention_mask], dim=1)

    def count_images(self, batch_size: int) -> int | None:
        """Number of images in the cache of `batch_size` sequences, or `None` where some were taken out since."""
        repeats, rest = divmod(batch_size, self.batch_size)
        return None if rest else self.num_images * repeats

    def followed_by(
        self, length: int, num_inserted: int, num_images: int, batch_size: int, attention_mask: torch.Tensor | None
    ) -> "CachedPrompt":
        """
        What the cache holds after another prompt.

        Args:
            length (`int`):
                Number of all positions.
            num_inserted (`int`):
                How many more positions than ids the new prompt has.
            num_images (`int`):
                Number of images in it.
            batch_size (`int`):
                Number of prompts.
            attention_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*):
                Of all positions. Masks of another form say nothing of single positions.
        """
        mask = attention_mask if getattr(attention_mask, "ndim", 0) == 2 else None
        num_images += self.count_images(batch_size) or 0
        return CachedPrompt(length, self.num_inserted + num_inserted, num_images, batch_size, mask)

    def _past_mask(self, past_length: int, batch_size: int, num_sequences: int) -> torch.Tensor | None:
        """`(batch_size, past_length)`, for what the cache holds."""
        mask = self.attention_mask
        if mask is None:
            return None
        if num_sequences % len(mask) or num_sequences % batch_size:
            raise ValueError(
                f"the cache was filled with {len(mask)} prompts and holds {num_sequences} sequences, but "
                f"{batch_size} were passed to continue it. Pass as many as it holds, and an attention_mask that "
                "covers the cache if some were removed."
            )
        mask = mask.repeat_interleave(num_sequences // len(mask), dim=0)[:: num_sequences // batch_size]
        return _extend(mask[:, :past_length], past_length)


def count_sequences(cache: Cache | None) -> int | None:
    """Number of sequences in the cache, `None` where it is empty or its layers have no keys."""
    layers = [] if cache is None else cache.layers
    keys = next((keys for layer in layers if (keys := getattr(layer, "keys", None)) is not None), None)
    return None if keys is None else keys.shape[0]


def _extend(mask: torch.Tensor, length: int) -> torch.Tensor:
    """The mask with ones behind it, up to `length`."""
    return torch.nn.functional.pad(mask, (0, length - mask.shape[1]), value=1)

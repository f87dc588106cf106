# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Keeps track of the images in a cache, which make it longer than the ids that it was created from."""

from dataclasses import dataclass

import torch
from transformers import Cache


@dataclass
class CachedPrompt:
    """
    Contents of a cache, stored in its attribute `cached_prompt` and copied along with it. Ids generated after the
    prompts take one position each.

    Args:
        length (`int`, *optional*, defaults to 0):
            Number of positions of the prompts, including images.
        num_inserted (`int`, *optional*, defaults to 0):
            Number of positions minus the number of ids of the prompts.
        num_images (`int`, *optional*, defaults to 0):
            Number of images in the prompts of the whole batch.
        batch_size (`int`, *optional*, defaults to 1):
            Number of prompts. The cache contains more sequences if there are several continuations per prompt.
        attention_mask (`torch.LongTensor` of shape `(batch_size, length)`, *optional*):
            Zero for padding. `None` if there is no padding.
    """

    length: int = 0
    num_inserted: int = 0
    num_images: int = 0
    batch_size: int = 1
    attention_mask: torch.Tensor | None = None

    @classmethod
    def of(cls, cache: Cache | None, past_length: int | None) -> "CachedPrompt":
        """Returns the contents of `cache`, of which `past_length` positions are filled. It may have been emptied."""
        note = getattr(cache, "cached_prompt", None) if past_length else None
        return cls() if note is None else note

    def count_ids(self, past_length: int) -> int:
        """
        Counts the ids, including padding, in the first `past_length` positions.

        Raises:
            ValueError: If these positions end within a prompt with images.
        """
        if (self.num_inserted or self.num_images) and past_length < self.length:
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
        Completes a mask to cover all positions, those in the cache and those that follow.

        Args:
            attention_mask (`torch.Tensor`, *optional*):
                The mask of only the new ids, of all ids so far, or of all positions so far. If the last two are of the
                same length, its part for the cached prompts is replaced by what is known of them.
            past_length (`int`):
                Number of positions in the cache.
            batch_size (`int`):
                Number of prompts.
            new_length (`int`):
                Number of ids that aren't in the cache.
            num_sequences (`int`, *optional*):
                Number of sequences in the cache; see [`count_sequences`].

        Returns:
            `torch.Tensor` of shape `(batch_size, past_length + new_length)`, or `None` if no padding is known.

        Raises:
            ValueError: If the mask has a different length.
        """
        given = None if attention_mask is None else attention_mask.shape[1]
        num_sequences = num_sequences or batch_size
        if given == past_length + new_length and not self._may_be_of_ids(batch_size, num_sequences):
            return attention_mask
        if given is not None and past_length == 0 and given > new_length:
            return attention_mask  # caches of recurrent layers have no length
        past_mask = self._past_mask(past_length, batch_size, num_sequences)
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
        """Number of images in a cache of `batch_size` sequences, or `None` if some have been removed."""
        repeats, rest = divmod(batch_size, self.batch_size)
        return None if rest else self.num_images * repeats

    def followed_by(
        self, length: int, num_inserted: int, num_images: int, batch_size: int, attention_mask: torch.Tensor | None
    ) -> "CachedPrompt":
        """
        Returns the contents of the cache after another prompt.

        Args:
            length (`int`):
                Total number of positions.
            num_inserted (`int`):
                Number of positions minus the number of ids of the new prompt.
            num_images (`int`):
                Number of images in the new prompt.
            batch_size (`int`):
                Number of prompts.
            attention_mask (`torch.Tensor` of shape `(batch_size, length)`, *optional*):
                Mask of all positions. Masks with other numbers of dimensions are ignored.
        """
        mask = attention_mask if getattr(attention_mask, "ndim", 0) == 2 else None
        num_images += self.count_images(batch_size) or 0
        return CachedPrompt(length, self.num_inserted + num_inserted, num_images, batch_size, mask)

    def _may_be_of_ids(self, batch_size: int, num_sequences: int) -> bool:
        """
        Whether a mask of all ids is as long as one of all positions and yet different, as in a batch whose longest
        prompt has no image.
        """
        return self.num_images > 0 and self.num_inserted == 0 and self._fits(batch_size, num_sequences)

    def _fits(self, batch_size: int, num_sequences: int) -> bool:
        """Whether each sequence in the cache can be assigned to the mask of a prompt."""
        if self.attention_mask is None:
            return False
        return num_sequences % len(self.attention_mask) == 0 and num_sequences % batch_size == 0

    def _past_mask(self, past_length: int, batch_size: int, num_sequences: int) -> torch.Tensor | None:
        """Returns the mask of the cache, `(batch_size, past_length)`."""
        mask = self.attention_mask
        if mask is None:
            return None
        if not self._fits(batch_size, num_sequences):
            raise ValueError(
                f"the cache was filled with {len(mask)} prompts and holds {num_sequences} sequences, but "
                f"{batch_size} were passed to continue it. Pass as many as it holds, and an attention_mask that "
                "covers the cache if some were removed."
            )
        mask = mask.repeat_interleave(num_sequences // len(mask), dim=0)[:: num_sequences // batch_size]
        return _extend(mask[:, :past_length], past_length)


def count_sequences(cache: Cache | None) -> int | None:
    """Number of sequences in the cache; `None` if it is empty or its layers have no keys."""
    layers = [] if cache is None else cache.layers
    keys = next((keys for layer in layers if (keys := getattr(layer, "keys", None)) is not None), None)
    return None if keys is None else keys.shape[0]


def _extend(mask: torch.Tensor, length: int) -> torch.Tensor:
    """Appends ones to the mask, up to `length`."""
    return torch.nn.functional.pad(mask, (0, length - mask.shape[1]), value=1)

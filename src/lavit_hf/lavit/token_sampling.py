# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Draws from the caller's own generators, where transformers' `generate` draws from torch's process-wide state."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList


Generators = torch.Generator | Sequence[torch.Generator] | None

MAX_SEED = 2**63 - 1


class TokenSampler:
    """
    Draws ids from probabilities, as `torch.multinomial` does, but from generators of its own. No state is shared with
    another sampler, so that threads do not disturb each other.

    One number is drawn from each generator that is given and seeds one that all draws come from: what is drawn later
    from a given one does not depend on how many ids there were.

    Args:
        generator (`torch.Generator` or `Sequence[torch.Generator]`):
            One for all rows, or one for each prompt. The rows of a prompt stand together.
    """

    def __init__(self, generator: torch.Generator | Sequence[torch.Generator]):
        given = [generator] if isinstance(generator, torch.Generator) else generator
        self._seeds = [_draw_seed(source) for source in given]
        self._generators: list[torch.Generator] | None = None

    def draw(self, probs: torch.Tensor, num_samples: int = 1) -> torch.LongTensor:
        """
        Draws without putting back.

        Args:
            probs (`torch.Tensor` of shape `(num_rows, num_ids)`):
                Probabilities.
            num_samples (`int`, *optional*, defaults to 1):
                How many are drawn of each row.

        Returns:
            `torch.LongTensor` of shape `(num_rows, num_samples)`.
        """
        if self._generators is None:
            self._generators = [torch.Generator(probs.device).manual_seed(seed) for seed in self._seeds]
        parts = probs.split(len(probs) // len(self._generators))
        return torch.cat(
            [
                torch.multinomial(part, num_samples, generator=source)
                for part, source in zip(parts, self._generators, strict=True)
            ]
        )


class DrawnTokenLogitsProcessor(LogitsProcessor):
    """
    Stands behind all other processors: draws an id of each row and leaves no other, so that greedy decoding takes it.

    Args:
        sampler (`TokenSampler`):
            What draws.
        keeps_scores (`bool`, *optional*, defaults to `False`):
            Whether [`~DrawnTokenLogitsProcessor.scores`] is asked for.
    """

    def __init__(self, sampler: TokenSampler, keeps_scores: bool = False):
        self.sampler = sampler
        self.keeps_scores = keeps_scores
        self._scores: dict[int, torch.Tensor] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self.keeps_scores:
            # Assisted decoding goes back to where a candidate was wrong: what was seen last of a length counts.
            self._scores[input_ids.shape[1]] = scores.clone()
        drawn = self.sampler.draw(scores.softmax(dim=-1))
        return torch.full_like(scores, -float("inf")).scatter_(1, drawn, 0.0)

    def scores(self, count: int) -> tuple[torch.Tensor, ...]:
        """The scores that the first `count` ids were drawn by."""
        return tuple(self._scores[length] for length in sorted(self._scores)[:count])


class StoppingCriteriaOnScores(StoppingCriteriaList):
    """Shows criteria the scores that ids were drawn by, in place of those that hold nothing but the drawn id."""

    def __init__(self, criteria: StoppingCriteriaList, drawn: DrawnTokenLogitsProcessor):
        super().__init__(criteria)
        self.drawn = drawn

    def __call__(self, input_ids: torch.LongTensor, scores: tuple | None, **kwargs) -> torch.BoolTensor:
        return super().__call__(input_ids, scores and self.drawn.scores(len(scores)), **kwargs)


def decode_by_sampler(
    decode: Callable,
    sampler: TokenSampler,
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **kwargs,
):
    """
    Runs one of transformers' decoding loops, with the draws of a sampler in place of its own.

    Args:
        decode (`Callable`):
            `_sample` or `_assisted_decoding` of a model.
        sampler (`TokenSampler`):
            What draws.
        input_ids, logits_processor, stopping_criteria, generation_config, kwargs:
            What the loop takes.

    Returns:
        What the loop gives.
    """
    drawn = DrawnTokenLogitsProcessor(sampler, keeps_scores=bool(generation_config.output_scores))
    # The settings' own processors, as top-k, are among `logits_processor` already.
    greedy = copy.copy(generation_config)
    greedy.do_sample = False
    outputs = decode(
        input_ids,
        logits_processor=LogitsProcessorList([*logits_processor, drawn]),
        stopping_criteria=StoppingCriteriaOnScores(stopping_criteria, drawn),
        generation_config=greedy,
        **kwargs,
    )
    if getattr(outputs, "scores", None) is not None:
        outputs.scores = drawn.scores(len(outputs.scores))
    return outputs


# transformers hands its choice of beams nothing of the call. Each thread has a value of its own.
_beam_sampler: ContextVar[TokenSampler | None] = ContextVar("beam_sampler", default=None)


@contextmanager
def choosing_beams_by(sampler: TokenSampler | None) -> Iterator[None]:
    """Inside, [`draw_beams`] draws by a sampler; in this thread alone."""
    token = _beam_sampler.set(sampler)
    try:
        yield
    finally:
        _beam_sampler.reset(token)


def draw_beams(log_probs: torch.Tensor, num_beams: int) -> torch.Tensor | None:
    """
    Draws beams by the sampler of [`choosing_beams_by`].

    Args:
        log_probs (`torch.Tensor` of shape `(batch_size, num_continuations)`):
            Log-probabilities of all continuations.
        num_beams (`int`):
            How many are drawn of each row.

    Returns:
        `torch.Tensor` of the same shape, minus infinity for those that were not drawn; `None` without a sampler.
    """
    sampler = _beam_sampler.get()
    if sampler is None:
        return None
    drawn = sampler.draw(log_probs.softmax(dim=-1), num_beams)
    return torch.full_like(log_probs, -float("inf")).scatter_(1, drawn, log_probs.gather(1, drawn))


def spawn_generator(generator: torch.Generator | None, device: torch.device) -> torch.Generator | None:
    """
    A generator on another device, seeded by one number that is drawn from the one given.

    Args:
        generator (`torch.Generator`, *optional*):
            The source.
        device (`torch.device`):
            Where the new one draws.

    Returns:
        `torch.Generator`, or `None` where there is no source.
    """
    return None if generator is None else torch.Generator(device).manual_seed(_draw_seed(generator))


def repeat_for_images(generator: Generators, counts: Sequence[int]) -> Generators:
    """Generators of prompts, one for each of their images; one for all stays one."""
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    return [source for source, count in zip(generator, counts, strict=True) for _ in range(count)]


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(MAX_SEED, (1,), generator=generator, device=generator.device))

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Sampling with the caller's generators, instead of torch's global state as in transformers' `generate`."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteriaList


Generators = torch.Generator | Sequence[torch.Generator] | None

MAX_SEED = 2**63 - 1


def is_shared(generator: Generators) -> bool:
    """Whether all images or prompts share a generator, or the global random state, instead of having one each."""
    return generator is None or isinstance(generator, torch.Generator)


def check_generators(generator: Generators, number: int, kind: str = "image") -> None:
    """
    Raises a `ValueError` if the argument isn't a generator, or a list with one for each image or prompt.

    Args:
        generator (`torch.Generator` or `Sequence[torch.Generator]`, *optional*):
            The argument.
        number (`int`):
            Number of images or prompts.
        kind (`str`, *optional*, defaults to `"image"`):
            What they are, for the message.
    """
    if is_shared(generator):
        return
    if not isinstance(generator, Sequence) or not all(isinstance(source, torch.Generator) for source in generator):
        raise ValueError(f"generator must be a torch.Generator, or a list with one for each {kind}.")
    if len(generator) != number:
        raise ValueError(
            f"there are {len(generator)} generators for {number} {kind}s. Pass one, or one for each {kind}."
        )


class TokenSampler:
    """
    Samples ids from probabilities, like `torch.multinomial`, but with its own generators. Samplers share no state, so
    threads don't affect each other.

    A single number is drawn from each passed generator and seeds the generator that is used for sampling. This way,
    the state of a passed generator doesn't depend on the number of sampled ids.

    Args:
        generator (`torch.Generator` or `Sequence[torch.Generator]`):
            One generator for all rows, or one per prompt. The rows of a prompt must be consecutive.
    """

    def __init__(self, generator: torch.Generator | Sequence[torch.Generator]):
        given = [generator] if isinstance(generator, torch.Generator) else generator
        self._seeds = [_draw_seed(source) for source in given]
        self._generators: list[torch.Generator] | None = None

    def draw(self, probs: torch.Tensor, num_samples: int = 1) -> torch.LongTensor:
        """
        Samples without replacement.

        Args:
            probs (`torch.Tensor` of shape `(num_rows, num_ids)`):
                Probabilities.
            num_samples (`int`, *optional*, defaults to 1):
                Number of samples per row.

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
    Runs after all other processors: samples one id per row and masks all others, so that greedy decoding selects it.

    Args:
        sampler (`TokenSampler`):
            The sampler.
        keeps_scores (`bool`, *optional*, defaults to `False`):
            Whether to store scores for [`~DrawnTokenLogitsProcessor.scores`].
    """

    def __init__(self, sampler: TokenSampler, keeps_scores: bool = False):
        self.sampler = sampler
        self.keeps_scores = keeps_scores
        self._scores: dict[int, torch.Tensor] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self.keeps_scores:
            # Assisted decoding goes back when a candidate is rejected, so only the last scores of each length count.
            self._scores[input_ids.shape[1]] = scores.clone()
        drawn = self.sampler.draw(scores.softmax(dim=-1))
        return torch.full_like(scores, -float("inf")).scatter_(1, drawn, 0.0)

    def scores(self, count: int) -> tuple[torch.Tensor, ...]:
        """Returns the scores from which the first `count` ids were sampled."""
        return tuple(self._scores[length] for length in sorted(self._scores)[:count])


class StoppingCriteriaOnScores(StoppingCriteriaList):
    """Passes the scores before sampling to criteria, instead of those in which all but the sampled id are masked."""

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
    Runs one of transformers' decoding loops, with the given sampler instead of its own sampling.

    Args:
        decode (`Callable`):
            `_sample` or `_assisted_decoding` of a model.
        sampler (`TokenSampler`):
            The sampler.
        input_ids, logits_processor, stopping_criteria, generation_config, kwargs:
            Arguments of the loop.

    Returns:
        The output of the loop.
    """
    drawn = DrawnTokenLogitsProcessor(sampler, keeps_scores=bool(generation_config.output_scores))
    # Processors for settings such as top-k are already in `logits_processor`.
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


# transformers doesn't pass any arguments of the call to its beam selection. Each thread has its own value.
_beam_sampler: ContextVar[TokenSampler | None] = ContextVar("beam_sampler", default=None)


@contextmanager
def choosing_beams_by(sampler: TokenSampler | None) -> Iterator[None]:
    """Context in which [`draw_beams`] uses a sampler, only in this thread."""
    token = _beam_sampler.set(sampler)
    try:
        yield
    finally:
        _beam_sampler.reset(token)


def draw_beams(log_probs: torch.Tensor, num_beams: int) -> torch.Tensor | None:
    """
    Samples beams with the sampler of [`choosing_beams_by`].

    Args:
        log_probs (`torch.Tensor` of shape `(batch_size, num_continuations)`):
            Log-probabilities of all continuations.
        num_beams (`int`):
            Number of beams per row.

    Returns:
        `torch.Tensor` of the same shape, with minus infinity for beams that weren't sampled; `None` without a sampler.
    """
    sampler = _beam_sampler.get()
    if sampler is None:
        return None
    drawn = sampler.draw(log_probs.softmax(dim=-1), num_beams)
    return torch.full_like(log_probs, -float("inf")).scatter_(1, drawn, log_probs.gather(1, drawn))


def spawn_generator(generator: torch.Generator | None, device: torch.device) -> torch.Generator | None:
    """
    Creates a generator on another device, seeded by a number drawn from the given generator.

    Args:
        generator (`torch.Generator`, *optional*):
            The source.
        device (`torch.device`):
            Device of the new generator.

    Returns:
        `torch.Generator`, or `None` if there is no source.
    """
    return None if generator is None else torch.Generator(device).manual_seed(_draw_seed(generator))


def repeat_for_images(generator: Generators, counts: Sequence[int]) -> Generators:
    """Repeats the generator of each prompt for each of its images. A single generator is returned unchanged."""
    if is_shared(generator):
        return generator
    return [source for source, count in zip(generator, counts, strict=True) for _ in range(count)]


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(MAX_SEED, (1,), generator=generator, device=generator.device))

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generates captions and answers in batches."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import BatchFeature

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..tasks.loading import load_language_model, load_processor
from ..tasks.options import ModelOptions
from ..tasks.reading import CAPTION, QUESTION_SETTINGS, ReadText, Task, answer_to, read_images
from .protocols import ANSWERABLE_QUESTION, TextProtocol
from .samples import Sample, Samples


NO, UNANSWERABLE = "no", "unanswerable"


class TextWriter:
    """
    Generates texts about images.

    Args:
        samples (`Samples`):
            Reads the images.
        protocol (`TextProtocol`):
            Settings for generating texts.
        repo (`str`):
            The model's repo.
        options (`ModelOptions`):
            Options for loading the model.
    """

    def __init__(self, samples: Samples, protocol: TextProtocol, repo: str, options: ModelOptions):
        self.samples, self.protocol, self.repo, self.options = samples, protocol, repo, options
        self.processor = load_processor(repo, options)

    @cached_property
    def model(self) -> LaVITForCausalLM:
        """The model."""
        return load_language_model(self.repo, self.options)

    def load(self) -> None:
        """Loads the model if it is not loaded yet."""
        _ = self.model

    def prepare(self, sample: Sample) -> list[BatchFeature]:
        """
        Prepares the model's inputs for a sample, one for each prompt.

        Raises:
            ValueError: If the image cannot be read.
        """
        image = self.samples.read(sample.picture)
        return [task.prepare(self.processor, image) for task in self._tasks(sample.text)]

    def write(
        self, samples: Sequence[Sample], prepared: Sequence[list[BatchFeature]], generator: torch.Generator
    ) -> list[dict[str, Any]]:
        """
        Generates texts.

        Args:
            samples (`Sequence[Sample]`):
                The samples.
            prepared (`Sequence[list[BatchFeature]]`):
                Output of [`~TextWriter.prepare`] for each sample.
            generator (`torch.Generator`):
                Random number generator.

        Returns:
            `list[dict]`: for each sample, `answer`, the text, and `tokens`, the number of rows of its image.
        """
        read = self._read([inputs[0] for inputs in prepared], samples[0], generator)
        texts = [text for text, _ in read]
        if self.protocol.asks_if_answerable and samples[0].text is not None:
            texts = self._answer_answerable(texts, samples, prepared, generator)
        return [{"answer": text, "tokens": kept.count} for text, (_, kept) in zip(texts, read)]

    def _answer_answerable(
        self,
        verdicts: Sequence[str],
        samples: Sequence[Sample],
        prepared: Sequence[list[BatchFeature]],
        generator: torch.Generator,
    ) -> list[str]:
        """Asks those questions that can be answered."""
        texts = [UNANSWERABLE if verdict.lower() == NO else None for verdict in verdicts]
        open_ones = [number for number, text in enumerate(texts) if text is None]
        if open_ones:
            read = self._read([prepared[number][1] for number in open_ones], samples[0], generator)
            for number, (answer, _) in zip(open_ones, read):
                texts[number] = answer
        return texts

    def _read(self, inputs: Sequence[BatchFeature], sample: Sample, generator: torch.Generator) -> list[ReadText]:
        task = self._tasks(sample.text)[-1]  # tasks in a batch differ only in their prompts
        return read_images(task, inputs, self.processor, self.model, generator)

    def _tasks(self, question: str | None) -> list[Task]:
        if question is None:
            return [Task(CAPTION.name, CAPTION.make_prompt, CAPTION.clean, self.protocol.generation)]
        asked = [ANSWERABLE_QUESTION.format(question), question] if self.protocol.asks_if_answerable else [question]
        return [self._question_task(text) for text in asked]

    def _question_task(self, question: str) -> Task:
        task = answer_to(question)
        template = self.protocol.question_template
        prompt: Callable[[LaVITProcessor], str] = (
            task.make_prompt if template is None else lambda _: template.replace("{}", question.strip())
        )
        return Task(task.name, prompt, task.clean, self.protocol.generation or QUESTION_SETTINGS)

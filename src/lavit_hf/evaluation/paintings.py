# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Generates images of prompts in batches, and saves them in a folder."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..lavit.atomic_files import atomic_file
from ..pixels.pipeline_lavit import LaVITPipeline
from ..tasks.loading import load_language_model, load_processor
from ..tasks.options import ModelOptions
from ..tasks.painting import load_pipeline
from ..visualization import save_image
from .benchmarks import Benchmark, Layout
from .picture_scores import ClipScorer
from .protocols import PaintingProtocol
from .samples import Sample


class PictureWriter:
    """
    Generates images of prompts.

    Args:
        benchmark (`Benchmark`):
            The benchmark, with the number of images per prompt and their folder layout.
        protocol (`PaintingProtocol`):
            Settings for generating images.
        folder (`Path`):
            Folder for the images.
        repo (`str`):
            The model's repo.
        options (`ModelOptions`):
            Options for loading the model.
        clip (`ClipScorer`, *optional*):
            Chooses the best of several candidates.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        protocol: PaintingProtocol,
        folder: Path,
        repo: str,
        options: ModelOptions,
        clip: ClipScorer | None,
    ):
        self.benchmark, self.protocol, self.folder = benchmark, protocol, folder
        self.repo, self.options, self.clip = repo, options, clip

    @cached_property
    def pipeline(self) -> LaVITPipeline:
        """The pipeline."""
        processor, model = load_processor(self.repo, self.options), load_language_model(self.repo, self.options)
        pipeline = load_pipeline(self.repo, self.options, processor, model)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def load(self) -> None:
        """Loads the pipeline if it is not loaded yet."""
        _ = self.pipeline

    def prepare(self, sample: Sample) -> None:
        """Prompts need no preparation."""

    def write(
        self, samples: Sequence[Sample], prepared: Sequence[None], generator: torch.Generator
    ) -> list[dict[str, Any]]:
        """
        Generates images of prompts and saves them.

        Args:
            samples (`Sequence[Sample]`):
                The prompts.
            prepared (`Sequence[None]`):
                Unused.
            generator (`torch.Generator`):
                Random number generator.

        Returns:
            `list[dict]`: for each prompt, `answer`, the path of its image or folder relative to `folder`, and
            `tokens`, the number of codes of each kept image.
        """
        count = self.benchmark.pictures_per_prompt
        tried = count * self.protocol.candidates
        output = self.pipeline(
            [sample.text for sample in samples],
            num_images_per_prompt=tried,
            generator=generator,
            **self.protocol.pipeline,
        )
        answers = []
        for number, sample in enumerate(samples):
            mine = slice(number * tried, (number + 1) * tried)
            pictures, codes = output.images[mine], [self._count_codes(ids) for ids in output.image_token_ids[mine]]
            kept = self._choose(pictures, sample.text, count)
            path = self._save([pictures[place] for place in kept], sample)
            answers.append({"answer": path.as_posix(), "tokens": [codes[place] for place in kept]})
        return answers

    def _count_codes(self, ids: torch.Tensor) -> int:
        return int((ids >= self.pipeline.language_model.config.first_code_token_id).sum())

    def _choose(self, pictures: Sequence[Image.Image], prompt: str, count: int) -> list[int]:
        """Returns the indices of the images to keep, one of each group of candidates."""
        group = self.protocol.candidates
        if group == 1:
            return list(range(count))
        return [
            start + self.clip.choose(pictures[start : start + group], prompt)
            for start in range(0, count * group, group)
        ]

    def _save(self, pictures: Sequence[Image.Image], sample: Sample) -> Path:
        """Saves the images of a prompt in the layout of the benchmark's scorer, and returns their relative path."""
        if self.benchmark.layout is Layout.geneval:
            folder = Path(sample.id)
            for number, picture in enumerate(pictures):
                save_image(picture, self.folder / folder / "samples" / f"{number:04d}.png")
            with atomic_file(self.folder / folder / "metadata.jsonl") as file:
                file.write_text(json.dumps(sample.metadata) + "\n")
            return folder
        path = Path(f"{sample.id}.png")
        save_image(tile(pictures) if len(pictures) > 1 else pictures[0], self.folder / path)
        return path


def tile(pictures: Sequence[Image.Image], columns: int = 2) -> Image.Image:
    """Tiles images of the same size without gaps, as DPG-Bench expects."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * width, rows * height))
    for number, picture in enumerate(pictures):
        grid.paste(picture, (number % columns * width, number // columns * height))
    return grid

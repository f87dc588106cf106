# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Finds how few denoising steps suffice: decodes the same image tokens with different numbers of steps, and tests whether
the judge recognizes the images as often as those with the most steps.

    python examples/emoji/compare_steps.py --model .cache/emoji/lavit-emoji --data .cache/emoji/set \
        --cache .cache/emoji/evaluation
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from datasets import load_from_disk
from PIL import Image

from lavit_emoji.measures.judge import Judge
from lavit_emoji.measures.looking import Looker, batches
from lavit_emoji.measures.painting import BATCH_SIZE, make_judge
from lavit_hf import LaVITPipeline


SIGNIFICANCE = 0.05


def sign_test(first: Sequence[bool], second: Sequence[bool]) -> float:
    """
    The p-value of a sign test: the probability of a difference at least as large between two equally good methods.

    Args:
        first, second (`Sequence[bool]`): Whether each trial succeeded, for the same trials.

    Returns:
        `float`: Two-sided and exact; 1 if the results of all trials are the same.
    """
    pairs = list(zip(first, second, strict=True))
    wins, losses = (sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))
    trials = wins + losses
    tail = sum(math.comb(trials, number) for number in range(min(wins, losses) + 1)) / 2**trials
    return min(1.0, 2 * tail)


def fewest_alike(hits: dict[int, list[bool]]) -> int:
    """The fewest steps such that neither they nor any number between them and the most differ significantly."""
    most = max(hits)
    fewest = most
    for steps in sorted(hits, reverse=True):
        if sign_test(hits[steps], hits[most]) < SIGNIFICANCE:
            break
        fewest = steps
    return fewest


def paint(pipeline: LaVITPipeline, tokens: Sequence[torch.Tensor], steps: int, seed: int) -> list[Image.Image]:
    """Decodes image tokens, from the same noise for any number of steps."""
    pictures = []
    for batch in batches(tokens, BATCH_SIZE):
        generator = torch.Generator().manual_seed(seed)
        pictures += pipeline(image_token_ids=list(batch), num_inference_steps=steps, generator=generator).images
    return pictures


def score_steps(
    pipeline: LaVITPipeline, judge: Judge, names: Sequence[str], steps: Sequence[int], seeds: Sequence[int]
) -> dict[int, list[bool]]:
    """For each number of steps, whether the right name is among the judge's first five, for all names and seeds."""
    hits = {number: [] for number in steps}
    for seed in seeds:
        tokens = pipeline.generate_image_tokens(list(names), generator=torch.Generator().manual_seed(seed))
        for number in steps:
            looks = judge.look(paint(pipeline, tokens, number, seed)).clone()
            hits[number] += (judge.rank(looks, names) < 5).tolist()
    return hits


def main(
    model: Annotated[Path, typer.Option(help="Repo with the pixel decoder to measure.")],
    data: Annotated[Path, typer.Option(help="Output of prepare.py.")],
    cache: Annotated[Path, typer.Option(help="Folder to cache features of the training drawings in.")],
    steps: Annotated[
        list[int] | None, typer.Option(help="Numbers of steps to compare; 5, 10, 15 and 25 by default.")
    ] = None,
    prompts: Annotated[int, typer.Option(help="Number of validation drawings whose names are used as prompts.")] = 100,
    seeds: Annotated[int, typer.Option(help="Number of images per prompt.")] = 3,
) -> None:
    """Print how often the judge recognizes the images, for each number of steps."""
    dataset = load_from_disk(data)
    pipeline = LaVITPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    looker = Looker(pipeline.language_model.visual_tokenizer, pipeline.processor.image_processor, cache)
    judge = make_judge(looker, dataset["train"], pipeline.picture_size)
    names = [name for name in dataset["validation"]["name"] if name in judge.names][:prompts]
    hits = score_steps(pipeline, judge, names, sorted(steps or (5, 10, 15, 25)), range(seeds))
    most = max(hits)
    for number, found in hits.items():
        print(
            f"{number} steps: {sum(found) / len(found):.3f} recognized, p = {sign_test(found, hits[most]):.3f} "
            f"compared with {most} steps"
        )
    print(f"Fewest steps without a significant difference: {fewest_alike(hits)}.")


if __name__ == "__main__":
    typer.run(main)

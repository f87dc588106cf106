# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Additional metrics to log, aggregated over processes and over the steps since the last log."""

import time
from collections import defaultdict
from typing import Protocol

import torch
from accelerate import Accelerator
from transformers.utils import ModelOutput


class Meter(Protocol):
    """Accumulates metrics step by step."""

    def update(self, inputs: dict, outputs: ModelOutput) -> None:
        """Adds the inputs and outputs of a step."""

    def compute(self, accelerator: Accelerator) -> dict[str, float]:
        """Returns the metrics over all processes since the last call."""


class LossMeter:
    """Averages every output whose name ends in `_loss` over the samples, and measures samples per second."""

    def __init__(self, unit: str = "images"):
        self.unit = unit
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, torch.Tensor] = defaultdict(float)
        self._steps = 0
        self._samples = 0
        self._started = time.perf_counter()

    def count(self, inputs: dict) -> int:
        """Returns the number of units in a batch."""
        return len(next(iter(inputs.values())))

    def update(self, inputs: dict, outputs: ModelOutput) -> None:
        num_samples = self.count(inputs)
        for name, value in outputs.items():
            if name.endswith("_loss"):
                self._sums[name] += value.detach() * num_samples
        self._count_step(num_samples)

    def _count_step(self, num_samples: int) -> None:
        self._steps += 1
        self._samples += num_samples
        if self._steps == 1:
            self._first = time.perf_counter(), self._samples

    def _rate(self) -> float:
        # Measured from the end of the first step, since an evaluation may have preceded it.
        started, before = self._first if self._steps > 1 else (self._started, 0)
        return (self._samples - before) / (time.perf_counter() - started)

    def compute(self, accelerator: Accelerator) -> dict[str, float]:
        if not self._steps:
            return {}
        names = sorted(self._sums)
        totals = [*(float(self._sums[name]) for name in names), self._samples, self._rate()]
        *sums, samples, rate = accelerator.reduce(torch.tensor(totals, device=accelerator.device), "sum").tolist()
        self._reset()
        return {**{name: total / samples for name, total in zip(names, sums)}, f"{self.unit}_per_second": rate}


class TokenizerMeter(LossMeter):
    """
    Losses, kept patches (mean, minimum, maximum), codebook usage and perplexity, and the accuracy of the place head if
    there is one.
    """

    def __init__(self, codebook_size: int):
        self.codebook_size = codebook_size
        super().__init__("images")

    def _reset(self) -> None:
        super()._reset()
        self._kept: list[torch.Tensor] = []
        self._uses: torch.Tensor | float = 0.0
        self._places: list[torch.Tensor] = []

    def update(self, inputs: dict, outputs: ModelOutput) -> None:
        super().update(inputs, outputs)
        self._kept.append(outputs.keep_mask.sum(dim=1))
        if outputs.place_accuracy is not None:
            self._places.append(outputs.place_accuracy)
        if outputs.codes is not None:
            self._uses = self._uses + torch.bincount(outputs.codes, minlength=self.codebook_size)

    def compute(self, accelerator: Accelerator) -> dict[str, float]:
        if not self._steps:
            return {}
        kept = torch.cat(self._kept).float()
        spread = accelerator.gather(torch.stack([kept.mean(), kept.min(), kept.max()])[None])
        uses = accelerator.reduce(torch.as_tensor(self._uses, device=accelerator.device).float(), "sum")
        figures = {
            "kept_mean": spread[:, 0].mean().item(),
            "kept_min": spread[:, 1].min().item(),
            "kept_max": spread[:, 2].max().item(),
        }
        if uses.any():
            shares = uses[uses > 0] / uses.sum()
            figures["codebook_usage"] = len(shares) / self.codebook_size
            figures["codebook_perplexity"] = torch.exp(-(shares * shares.log()).sum()).item()
        if self._places:
            figures["place_accuracy"] = accelerator.reduce(torch.stack(self._places).mean(), "mean").item()
        return {**super().compute(accelerator), **figures}


class SelectionMeter(LossMeter):
    """
    Losses, kept patches (mean and standard deviation over images), the share of undecided probabilities (between 0.1
    and 0.9), and the rank correlation between the number of kept patches and the complexity of an image.
    """

    def _reset(self) -> None:
        super()._reset()
        self._kept: list[torch.Tensor] = []
        self._undecided: list[torch.Tensor] = []
        self._complexity: list[torch.Tensor] = []

    def update(self, inputs: dict, outputs: ModelOutput) -> None:
        super().update(inputs, outputs)
        probs = outputs.keep_probs
        self._kept.append(outputs.keep_mask.sum(dim=1))
        self._undecided.append(((probs > 0.1) & (probs < 0.9)).float().mean(dim=1))
        self._complexity.append(outputs.complexity)

    def compute(self, accelerator: Accelerator) -> dict[str, float]:
        if not self._steps:
            return {}
        kept = torch.cat(self._kept).float()
        figures = {
            "kept_mean": kept.mean(),
            "kept_std": kept.std(correction=0),
            "undecided_share": torch.cat(self._undecided).mean(),
            "kept_to_complexity": rank_correlation(kept, torch.cat(self._complexity).float()),
        }
        values = accelerator.reduce(torch.stack(list(figures.values())), "mean").tolist()
        return {**super().compute(accelerator), **dict(zip(figures, values))}


def rank_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """
    Computes Spearman's rank correlation. Equal values share their mean rank.

    Args:
        first, second (`torch.Tensor` of shape `(num_values,)`):
            The values.

    Returns:
        `torch.Tensor`: a scalar from -1 to 1; 0 if all values of either tensor are equal.
    """
    ranks = torch.stack([_ranks(first), _ranks(second)])
    ranks = ranks - ranks.mean(dim=1, keepdim=True)
    lengths = ranks.norm(dim=1).prod()
    return torch.where(lengths > 0, ranks.prod(dim=0).sum() / lengths, 0.0)


def _ranks(values: torch.Tensor) -> torch.Tensor:
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(dim=0) - (counts - 1) / 2)[places]


class LanguageMeter(LossMeter):
    """The losses of text and image ids, each averaged over its own targets, and tokens per second."""

    kinds = ("text", "image")

    def __init__(self):
        super().__init__("tokens")

    def _reset(self) -> None:
        super()._reset()
        self._targets: dict[str, torch.Tensor] = defaultdict(float)

    def update(self, inputs: dict, outputs: ModelOutput) -> None:
        for kind in self.kinds:
            count = outputs[f"num_{kind}_targets"]
            self._sums[kind] += outputs[f"{kind}_loss"] * count
            self._targets[kind] += count
        self._count_step(outputs.num_tokens)

    def compute(self, accelerator: Accelerator) -> dict[str, float]:
        if not self._steps:
            return {}
        sums = torch.stack([self._sums[kind] for kind in self.kinds])
        counts = torch.stack([self._targets[kind] for kind in self.kinds])
        rate = sums.new_tensor([self._rate()])
        totals = accelerator.reduce(torch.cat([sums, counts, rate]), "sum")
        self._reset()
        sums, counts, rate = totals.split([len(sums), len(counts), 1])
        losses = (sums / counts.clamp(min=1)).tolist()
        return {**{f"{kind}_loss": loss for kind, loss in zip(self.kinds, losses)}, "tokens_per_second": rate.item()}

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Results: a JSON file with all answers, and a table with a line for each run."""

import csv
import io
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from statistics import fmean, pstdev
from typing import Any

from ..lavit.atomic_files import atomic_file
from ..tasks.failures import Failure


TABLE_NAME = "results.csv"
COLUMNS = (
    "task",
    "protocol",
    "model",
    "weights",
    "split",
    "limit",
    "seed",
    "number",
    "skipped",
    "scores",
    "tokens_mean",
    "tokens_std",
    "seconds",
    "lavit_hf",
)
PACKAGES = (
    "lavit_hf",
    "torch",
    "transformers",
    "diffusers",
    "accelerate",
    "pycocoevalcap",
    "torchmetrics",
    "torch-fidelity",
    "spacy",
)


def describe_versions() -> dict[str, str]:
    """Returns the versions of Python and of relevant installed packages."""
    versions = {"python": python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def describe_tokens(counts: Sequence[int]) -> dict[str, float]:
    """Returns the mean and standard deviation of the number of tokens per image."""
    return {"mean": fmean(counts), "std": pstdev(counts)}


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Writes the file atomically."""
    with atomic_file(path) as file:
        file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check_table(path: Path) -> None:
    """Raises a [`Failure`] if the file exists but is a different table."""
    if path.exists() and not path.read_text(encoding="utf-8").startswith(",".join(COLUMNS)):
        raise Failure(f"{path} is not a table of evaluations. Choose another --output.")


def add_to_table(path: Path, result: dict[str, Any]) -> None:
    """Adds a line to the table unless it is already there. Creates the table if it does not exist."""
    row = {name: result[name] for name in COLUMNS if name in result} | {
        "protocol": result["protocol"]["name"],
        "skipped": len(result["skipped"]),
        "scores": describe_scores(result["scores"]),
        "tokens_mean": f"{result['tokens_per_image']['mean']:.1f}",
        "tokens_std": f"{result['tokens_per_image']['std']:.1f}",
        "seconds": f"{result['seconds']:.1f}",
        "lavit_hf": result["versions"]["lavit_hf"],
    }
    line = io.StringIO()
    csv.DictWriter(line, COLUMNS, lineterminator="\n").writerow(row)
    table = path.read_text(encoding="utf-8") if path.exists() else ",".join(COLUMNS) + "\n"
    if line.getvalue() in table:
        return
    with atomic_file(path) as file:
        file.write_text(table + line.getvalue(), encoding="utf-8")


def describe_scores(scores: dict[str, float]) -> str:
    """Formats scores in one line."""
    return ", ".join(f"{name} {value:.1f}" for name, value in scores.items())


def describe_result(result: dict[str, Any], path: Path) -> str:
    """Formats a summary of the result, in several lines."""
    tokens = result["tokens_per_image"]
    lines = [
        f"{result['task']}: {describe_scores(result['scores']) or 'for an external scorer'}",
        f"{result['number']:,} samples, {len(result['skipped']):,} images skipped, {tokens['mean']:.1f} tokens per "
        f"image (standard deviation {tokens['std']:.1f}), {result['seconds']:.0f} seconds",
        *(f"{name} was not computed: {reason}" for name, reason in result["left_out"].items()),
        str(path),
    ]
    return "\n".join(lines)

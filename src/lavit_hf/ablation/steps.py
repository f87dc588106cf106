# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The steps of an arm for one seed, with all settings. The folder of each step is named by what the step depends on, so
that arms and ablations share steps.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..tasks.failures import Failure
from .plans import Plan


REFERENCE = re.compile(r"\{(\w+)\}")
ID_LENGTH = 12  # hexadecimal digits in the name of a folder


@dataclass(frozen=True)
class Step:
    """
    A step to run.

    Args:
        name (`str`): Its name in the plan.
        script (`Path`): The script to run.
        settings (`dict`): All its settings, including its folder.
        folder (`Path`): Its output folder.
    """

    name: str
    script: Path
    settings: dict[str, Any]
    folder: Path

    @property
    def key(self) -> str:
        """A readable name that distinguishes it from other steps."""
        return f"{self.name} {self.folder.name}"


def chain_of(plan: Plan, arm: str, seed: int, work: Path, variables: Mapping[str, str]) -> list[Step]:
    """
    Creates the steps of an arm.

    Args:
        plan ([`Plan`]): The ablation.
        arm (`str`): Name of the arm.
        seed (`int`): The seed.
        work (`Path`): Parent folder of the steps' folders.
        variables (`Mapping[str, str]`): Values of `{name}` references in settings, besides `{seed}` and earlier steps.

    Returns:
        `list[Step]`: The steps in order. Steps with the same settings, including those of earlier steps, have the same
        folder.

    Raises:
        Failure: If a setting contains an unknown reference.
    """
    known: dict[str, Any] = {**variables, "seed": seed}
    steps = []
    for kind in plan.steps:
        settings = kind.settings | plan.arms[arm].get(kind.name, {})
        settings = {name: _fill(value, known, f"{plan.name}: {kind.name}.{name}") for name, value in settings.items()}
        folder = work / kind.name / _identify(kind.script.name, settings)
        steps.append(Step(kind.name, kind.script, settings | {kind.output: str(folder)}, folder))
        known[kind.name] = str(folder)
    return steps


def _identify(script: str, settings: Mapping[str, Any]) -> str:
    text = json.dumps([script, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _fill(value: Any, known: Mapping[str, Any], where: str) -> Any:
    """Replaces the references in a setting. A setting that consists of a single reference keeps the value's type."""
    if isinstance(value, dict):
        return {name: _fill(item, known, where) for name, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, known, where) for item in value]
    if not isinstance(value, str):
        return value
    if unknown := [name for name in REFERENCE.findall(value) if name not in known]:
        raise Failure(f"{where} refers to {', '.join(unknown)}, but only {', '.join(known)} are known there.")
    whole = REFERENCE.fullmatch(value)
    return known[whole[1]] if whole else REFERENCE.sub(lambda match: str(known[match[1]]), value)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What an arm does with a seed: steps with all their settings, each in a folder named by what it depends on, so that arms
and ablations share what they have in common.
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
ID_LENGTH = 12  # hexadecimal digits in a folder's name


@dataclass(frozen=True)
class Step:
    """
    A step to take.

    Args:
        name (`str`): Its name in the plan.
        script (`Path`): What takes it.
        settings (`dict`): All its settings, its folder among them.
        folder (`Path`): Where it writes to.
    """

    name: str
    script: Path
    settings: dict[str, Any]
    folder: Path

    @property
    def key(self) -> str:
        """What tells it from other steps, in words."""
        return f"{self.name} {self.folder.name}"


def chain_of(plan: Plan, arm: str, seed: int, work: Path, variables: Mapping[str, str]) -> list[Step]:
    """
    The steps of an arm.

    Args:
        plan ([`Plan`]): The ablation.
        arm (`str`): The arm's name.
        seed (`int`): The seed.
        work (`Path`): Folder for the steps' folders.
        variables (`Mapping[str, str]`): What stands in settings for `{name}`, besides `{seed}` and earlier steps.

    Returns:
        `list[Step]`: In order. The same settings, those of earlier steps counted, give the same folder.

    Raises:
        Failure: If a setting refers to something that is not known.
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
    """A setting with its references replaced; one that is a reference and nothing else keeps its type."""
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

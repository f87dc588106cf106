# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Plans of ablations, read from YAML: the steps of all arms, and the settings of each arm.

    question: Does a length that follows the content beat a fixed one?
    chain: chain.yaml                    # describes all steps there are
    steps: [codes, tokens, reader, reading]
    seeds: [0, 1, 2]
    arms:
      dynamic: {}
      fixed: {codes: {selection: ratio}}
    figures:
      reading.exact: {label: captions right, percent: true}
    headline: reading.exact
    plot: {x: reading.tokens, y: reading.exact}
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ..tasks.failures import Failure


ARM_LABEL = "label"
BUILT_IN_FIGURES = ("seconds",)  # available for every step


@dataclass(frozen=True)
class StepKind:
    """
    A step as defined in the chain.

    Args:
        name (`str`): Its name, by which settings of other steps refer to its folder, such as `{codes}`.
        script (`Path`): The script to run, with a YAML file of settings as its argument.
        settings (`dict`): Settings from the YAML file named in the chain, overridden by those in the chain.
        output (`str`): Name of the setting for the output folder.
    """

    name: str
    script: Path
    settings: dict[str, Any]
    output: str


@dataclass(frozen=True)
class Figure:
    """
    A number that is reported for every arm.

    Args:
        name (`str`): `step.figure`, with the name of the figure in the step's `figures.json`.
        label (`str`): Label in the table.
        percent (`bool`): Whether to show it as a percentage.
        digits (`int`): Number of decimal places.
    """

    name: str
    label: str
    percent: bool = False
    digits: int = 3


@dataclass(frozen=True)
class Plan:
    """
    An ablation.

    Args:
        name (`str`): Name of the file.
        question (`str`): The question that it answers.
        steps (`tuple[StepKind]`): Its steps, in order.
        arms (`dict[str, dict]`): For each arm, the settings of its steps that differ from the chain's.
        labels (`dict[str, str]`): Labels of the arms in tables.
        seeds (`tuple[int]`): The seeds for each arm.
        figures (`tuple[Figure]`): The reported figures.
        headline (`str`): The figure in the table of all ablations.
        plot (`dict[str, str]`): The figures on the axes, `x` and `y`.
        paper (`str`): The place in the paper with this ablation, if any.
    """

    name: str
    question: str
    steps: tuple[StepKind, ...]
    arms: dict[str, dict[str, dict]]
    labels: dict[str, str]
    seeds: tuple[int, ...]
    figures: tuple[Figure, ...]
    headline: str
    plot: dict[str, str]
    paper: str = ""

    def figure(self, name: str) -> Figure:
        """Returns the figure with this name."""
        return next(figure for figure in self.figures if figure.name == name)


@dataclass(frozen=True)
class _PlanFile:
    """Allowed and required fields of a plan's YAML."""

    question: str
    chain: str
    steps: list[str]
    arms: dict[str, dict | None]
    figures: dict[str, dict]
    headline: str
    plot: dict[str, str]
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    paper: str = ""


def find_plans(folder: Path, names: list[str] | None = None) -> list[Path]:
    """
    Finds the files of plans.

    Args:
        folder (`Path`): Folder of the plans.
        names (`list[str]`, *optional*): Names of the plans. Defaults to all.

    Returns:
        `list[Path]`: The files, in the order of the names.

    Raises:
        Failure: If the folder or a plan does not exist.
    """
    known = {path.stem: path for path in sorted(folder.glob("*.yaml")) if "arms" in _read_yaml(path)}
    if not known:
        raise Failure(
            f"{folder} has no ablation plans. Run this in a clone of lavit_hf, or pass a folder with --plans."
        )
    if unknown := [name for name in names or [] if name not in known]:
        raise Failure(f"there is no ablation {', '.join(unknown)} in {folder}, only {', '.join(known)}.")
    return [known[name] for name in names or known]


def load_plan(path: Path) -> Plan:
    """
    Reads a plan.

    Args:
        path (`Path`): Its YAML file. Paths of the chain and scripts are relative to it.

    Returns:
        [`Plan`].

    Raises:
        Failure: If something is missing, unknown or refers to something that does not exist.
    """
    file = _PlanFile(**_checked(_read_yaml(path), _PlanFile, path))
    chain_path = path.parent / file.chain
    chain = _read_yaml(chain_path)
    if unknown := [name for name in file.steps if name not in chain]:
        raise Failure(f"{path}: {chain_path.name} has no step {', '.join(unknown)}, only {', '.join(chain)}.")
    steps = tuple(_load_step(name, chain[name], chain_path) for name in file.steps)
    arms = {name: dict(arm or {}) for name, arm in file.arms.items()}
    labels = {name: arm.pop(ARM_LABEL, name) for name, arm in arms.items()}
    for name, arm in arms.items():
        if unknown := sorted(arm.keys() - set(file.steps)):
            raise Failure(f"{path}: the arm {name} sets {', '.join(unknown)}, which is not a step of the plan.")
    figures = tuple(Figure(name, **_checked(figure, Figure, path, {"name"})) for name, figure in file.figures.items())
    for name in (*file.plot.values(), file.headline):
        if name not in file.figures:
            raise Failure(f"{path}: {name} is to be shown, but the plan has no such figure.")
    return Plan(
        path.stem, file.question, steps, arms, labels, tuple(file.seeds), figures, file.headline, file.plot, file.paper
    )  # fmt: skip


def _load_step(name: str, described: Mapping[str, Any], chain_path: Path) -> StepKind:
    folder = chain_path.parent
    script = folder / described.get("script", "")
    if not script.is_file():
        raise Failure(f"{chain_path}: the step {name} names the script {script}, which does not exist.")
    settings = _read_yaml(folder / described["run"]) if "run" in described else {}
    return StepKind(name, script.resolve(), settings | described.get("settings", {}), described["output"])


def _checked(values: Mapping[str, Any], kind: type, path: Path, given: set[str] = frozenset()) -> dict[str, Any]:
    """Returns the values after checking them against the fields of a dataclass."""
    known = {item.name: item for item in fields(kind) if item.name not in given}
    needed = [name for name, item in known.items() if item.default is MISSING and item.default_factory is MISSING]
    if unknown := sorted(values.keys() - known.keys()):
        raise Failure(f"{path} has unknown keys: {', '.join(unknown)}. Allowed are {', '.join(known)}.")
    if missing := [name for name in needed if name not in values]:
        raise Failure(f"{path} is missing {', '.join(missing)}.")
    return dict(values)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise Failure(f"there is no file {path}.")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise Failure(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise Failure(f"{path} must contain `name: value` pairs.")
    return values

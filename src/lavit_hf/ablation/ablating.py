# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Runs an ablation from its plan to its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .plans import Plan
from .reporting import SUMMARY_NAME, TABLE_NAME, add_to_summary, gather, write_report
from .running import Runner
from .steps import chain_of


STEPS_NAME = "steps"  # folder of all steps, shared by ablations


def run_plan(plan: Plan, seeds: Sequence[int], work: Path, variables: Mapping[str, str], jobs: int = 1) -> Path:
    """
    Runs the remaining steps of an ablation and writes its report.

    Args:
        plan ([`Plan`]): The ablation.
        seeds (`Sequence[int]`): The seeds for each arm.
        work (`Path`): Folder for all steps and reports.
        variables (`Mapping[str, str]`): Values of `{name}` references in settings.
        jobs (`int`, *optional*, defaults to 1): Number of arms to run at once.

    Returns:
        `Path`: Folder of the report.

    Raises:
        Failure: If a step fails.
    """
    # Runs all arms with the first seed before the next seed, so that an interrupted ablation can be compared.
    chains = {
        (arm, seed): chain_of(plan, arm, seed, work / STEPS_NAME, variables) for seed in seeds for arm in plan.arms
    }
    Runner(jobs).run(list(chains.values()))
    results = gather(plan, chains)
    write_report(plan, results, seeds, work / plan.name)
    add_to_summary(plan, results, seeds, work / SUMMARY_NAME)
    return work / plan.name


__all__ = ["TABLE_NAME", "run_plan"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""An ablation from its plan to its table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from .plans import Plan
from .reporting import SUMMARY_NAME, TABLE_NAME, add_to_summary, gather, write_report
from .running import Runner
from .steps import chain_of


STEPS_NAME = "steps"  # folder of all steps, which ablations share


def run_plan(plan: Plan, seeds: Sequence[int], work: Path, variables: Mapping[str, str], jobs: int = 1) -> Path:
    """
    Runs an ablation, or what is left of it to run, and writes its report.

    Args:
        plan ([`Plan`]): The ablation.
        seeds (`Sequence[int]`): The seeds that each arm is run with.
        work (`Path`): Folder for everything.
        variables (`Mapping[str, str]`): What stands in settings for `{name}`.
        jobs (`int`, *optional*, defaults to 1): Arms at once.

    Returns:
        `Path`: The report's folder.

    Raises:
        Failure: If a step fails.
    """
    # All arms with the first seed before any with the next: what is cut short can be compared.
    chains = {
        (arm, seed): chain_of(plan, arm, seed, work / STEPS_NAME, variables) for seed in seeds for arm in plan.arms
    }
    Runner(jobs).run(list(chains.values()))
    results = gather(plan, chains)
    write_report(plan, results, seeds, work / plan.name)
    add_to_summary(plan, results, seeds, work / SUMMARY_NAME)
    return work / plan.name


__all__ = ["TABLE_NAME", "run_plan"]

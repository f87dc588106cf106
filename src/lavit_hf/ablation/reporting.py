# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reports of ablations: figures by arm and seed, as JSON, a table and a plot."""

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..lavit.atomic_files import atomic_file
from .plans import Figure, Plan
from .running import read_figures
from .steps import Step


RESULTS_NAME, TABLE_NAME, PLOT_NAME = "results.json", "table.md", "plot.png"
NOT_MEASURED = "-"
SUMMARY_NAME = "ablations.csv"  # one row per ablation


@dataclass(frozen=True)
class Spread:
    """
    Values of a figure over seeds.

    Args:
        values (`tuple[float]`): The value for each seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample standard deviation; 0 for a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def show(self, figure: Figure) -> str:
        """Formats mean and deviation as defined by the figure."""
        factor, digits = (100, 1) if figure.percent else (1, figure.digits)
        mean, deviation = f"{self.mean * factor:,.{digits}f}", f"{self.deviation * factor:.{digits}f}"
        return f"{mean} ± {deviation}" if len(self.values) > 1 else mean


Results = Mapping[str, Mapping[str, Spread]]  # arm, figure


def gather(plan: Plan, chains: Mapping[tuple[str, int], Sequence[Step]]) -> Results:
    """
    Collects the figures of all arms.

    Args:
        plan ([`Plan`]): The ablation.
        chains (`Mapping[tuple[str, int], Sequence[Step]]`): The finished steps of each arm and seed.

    Returns:
        `Mapping[str, Mapping[str, Spread]]`: Figures by arm and name. Figures that an arm does not have are omitted.

    Raises:
        Failure: If a step is not done.
    """
    figures = {
        key: {f"{step.name}.{name}": value for step in chain for name, value in read_figures(step).items()}
        for key, chain in chains.items()
    }
    results = {}
    for arm in plan.arms:
        of_seeds = [values for (name, _), values in figures.items() if name == arm]
        names = [figure.name for figure in plan.figures if all(figure.name in values for values in of_seeds)]
        results[arm] = {name: Spread(tuple(values[name] for values in of_seeds)) for name in names}
    return results


def write_report(plan: Plan, results: Results, seeds: Sequence[int], folder: Path) -> None:
    """
    Writes `results.json`, `table.md` and `plot.png`.

    Args:
        plan ([`Plan`]): The ablation.
        results (`Mapping[str, Mapping[str, Spread]]`): Output of [`gather`].
        seeds (`Sequence[int]`): The seeds.
        folder (`Path`): Folder to write to.
    """
    values = {arm: {name: spread.values for name, spread in of_arm.items()} for arm, of_arm in results.items()}
    described = {"question": plan.question, "seeds": list(seeds), "figures": values}
    with atomic_file(folder / RESULTS_NAME) as file:
        file.write_text(json.dumps(described, indent=2) + "\n")
    with atomic_file(folder / TABLE_NAME) as file:
        file.write_text(format_table(plan, results, seeds))
    draw_plot(plan, results, folder / PLOT_NAME)


def format_table(plan: Plan, results: Results, seeds: Sequence[int]) -> str:
    """Formats the table of an ablation in Markdown: a row per arm, with mean and standard deviation over the seeds."""
    asked = f"{plan.question} (Paper, {plan.paper}.)" if plan.paper else plan.question
    rows = [["", *(figure.label + (", %" if figure.percent else "") for figure in plan.figures)]]
    rows.append(["---", *["---:"] * len(plan.figures)])
    for arm, of_arm in results.items():
        shown = [
            of_arm[figure.name].show(figure) if figure.name in of_arm else NOT_MEASURED for figure in plan.figures
        ]
        rows.append([plan.labels[arm], *shown])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    over = f"Mean ± standard deviation over {len(seeds)} seeds." if len(seeds) > 1 else f"With seed {seeds[0]} only."
    return "\n".join([asked, "", *lines, "", over, ""])


def draw_plot(plan: Plan, results: Results, path: Path) -> None:
    """Plots the arms by the plan's two figures, with a dot for each seed and a ring for their mean."""
    from matplotlib.figure import Figure as Canvas

    horizontal, vertical = (plan.figure(plan.plot[axis]) for axis in ("x", "y"))
    canvas = Canvas(figsize=(6, 4), layout="constrained")
    axes = canvas.subplots()
    for arm, of_arm in results.items():
        if horizontal.name not in of_arm or vertical.name not in of_arm:
            continue
        across, up = of_arm[horizontal.name], of_arm[vertical.name]
        dots = axes.scatter(across.values, up.values, s=12, alpha=0.6)
        axes.scatter([across.mean], [up.mean], s=80, facecolors="none", edgecolors=dots.get_facecolor()[:, :3])
        axes.annotate(plan.labels[arm], (across.mean, up.mean), xytext=(6, 5), textcoords="offset points", fontsize=8)
    axes.set(xlabel=horizontal.label, ylabel=vertical.label, title=plan.name)
    axes.margins(x=0.2)
    with atomic_file(path) as file:
        canvas.savefig(file, format="png", dpi=150)


def add_to_summary(plan: Plan, results: Results, seeds: Sequence[int], path: Path) -> None:
    """
    Adds the ablation's row to the table of all ablations, or replaces it: its question and the headline figure of
    every arm.

    Args:
        plan ([`Plan`]): The ablation.
        results (`Mapping[str, Mapping[str, Spread]]`): Output of [`gather`].
        seeds (`Sequence[int]`): The seeds.
        path (`Path`): The table, as CSV.
    """
    headline = plan.figure(plan.headline)
    arms = [
        f"{plan.labels[arm]}: {of_arm[headline.name].show(headline)}"
        for arm, of_arm in results.items()
        if headline.name in of_arm
    ]
    row = {
        "ablation": plan.name,
        "question": plan.question,
        "figure": headline.label + (", %" if headline.percent else ""),
        "seeds": str(len(seeds)),
        "arms": "; ".join(arms),
    }
    rows = {}
    if path.exists():
        with open(path, newline="") as file:
            rows = {other["ablation"]: other for other in csv.DictReader(file)}
    rows[plan.name] = row
    with atomic_file(path) as unfinished, open(unfinished, "w", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit ablate`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import OUTPUT_PANEL


def check_seeds(text: str | None) -> str | None:
    """Raises a usage error unless the text is a list of integers."""
    if text is not None and not all(part.strip().isdecimal() for part in text.split(",")):
        raise typer.BadParameter(f"{text!r} is not a list of whole numbers. Separate them with commas, as in 0,1,2.")
    return text


def check_work(path: Path) -> Path:
    """Raises a usage error for a file instead of a folder."""
    if path.is_file():
        raise typer.BadParameter(f"{path} is a file. Pass a folder.")
    return path


def ablate(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Plans to run; all by default.")
    ] = None,
    plans: Annotated[Path, typer.Option(help="Folder with the plans.")] = Path("examples/ablations"),
    data: Annotated[Path, typer.Option(help="Folder with the data, called {data} in plans.")] = Path(".cache/emoji"),
    seeds: Annotated[
        str | None, typer.Option(help="Seeds to run, such as 0,1,2; by default, the plan's.", callback=check_seeds)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of arms to run at once.")] = 1,
    work: Annotated[
        Path,
        typer.Option(
            help="Folder for trained models and results.",
            callback=check_work,
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = Path(".cache/ablations"),
    list_only: Annotated[bool, typer.Option("--list", help="List the plans without running any.")] = False,
) -> None:
    """Train variants of the method and compare them. An interrupted run resumes where it stopped."""
    from ..ablation.ablating import TABLE_NAME, run_plan
    from ..ablation.plans import find_plans, load_plan

    loaded = [load_plan(path) for path in find_plans(plans, names)]
    if list_only:
        for plan in loaded:
            typer.echo(f"{plan.name}: {plan.question}\n  {'; '.join(plan.labels.values())}")
        return
    for plan in loaded:
        of_plan = [int(seed) for seed in seeds.split(",")] if seeds else plan.seeds
        folder = run_plan(plan, of_plan, work, {"data": str(data)}, jobs)
        typer.echo((folder / TABLE_NAME).read_text())

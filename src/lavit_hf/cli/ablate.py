# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit ablate`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import OUTPUT_PANEL


def check_seeds(text: str | None) -> str | None:
    """Refuses what is no list of whole numbers, as a usage error."""
    if text is not None and not all(part.strip().isdigit() for part in text.split(",")):
        raise typer.BadParameter(f"{text!r} must be whole numbers with commas between them, as 0,1,2.")
    return text


def check_work(path: Path) -> Path:
    """Refuses a file where a folder is meant."""
    if path.is_file():
        raise typer.BadParameter(f"{path} is a file: name a folder.")
    return path


def ablate(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Ablations to run; all of them without a name.")
    ] = None,
    plans: Annotated[Path, typer.Option(help="Folder of the plans.")] = Path("examples/ablations"),
    data: Annotated[Path, typer.Option(help="Folder of the data that plans call {data}.")] = Path(".cache/emoji"),
    seeds: Annotated[
        str | None, typer.Option(help="Seeds to run with, as 0,1,2; by default the plan's.", callback=check_seeds)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many arms to run at once.")] = 1,
    work: Annotated[
        Path,
        typer.Option(
            help="Folder for all that is trained and measured.", callback=check_work, rich_help_panel=OUTPUT_PANEL
        ),
    ] = Path(".cache/ablations"),
    list_only: Annotated[bool, typer.Option("--list", help="Say which ablations there are, and run none.")] = False,
) -> None:
    """Train and measure what the parts of the method are worth. Cut short, it goes on where it stopped."""
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

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit eval`."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..evaluation.benchmarks import BENCHMARKS, DEFAULT_SPLIT
from ..evaluation.options import CLIP, EvaluationOptions, Tokenizer
from ..evaluation.requests import request_evaluation
from ..evaluation.results import describe_result
from ..tasks.options import DType, ModelOptions
from .options import OUTPUT_PANEL, BatchSize, Device, DTypeOption, Model, Quantize


SCORES_PANEL = "Scores"

EvaluationTask = Enum("EvaluationTask", {name: name for name in BENCHMARKS}, type=str)


class Protocol(str, Enum):
    """Source of the settings."""

    paper = "paper"
    released = "released"
    own = "own"


def eval(
    task: Annotated[EvaluationTask, typer.Argument(help="The benchmark to run.", show_default=False)],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder with the benchmark's annotation files and images, or a folder saved by the datasets library.",
            show_default=False,
        ),
    ],
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="Settings of the paper, of the released script (image generation only) or of the checkpoint itself."
        ),
    ] = Protocol.paper,
    split: Annotated[
        str | None, typer.Option(help="Split of the data, if there are several.", show_default=DEFAULT_SPLIT)
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column with the captions, questions or prompts, if the data is a datasets folder."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of samples, for a trial run.")] = None,
    batch_size: BatchSize = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, metavar="<int>", help="Random seed.")] = 0,
    tokenizer: Annotated[
        Tokenizer,
        typer.Option(
            help="How captions are split into words: ptb, as for published scores (needs Java), or words.",
            rich_help_panel=SCORES_PANEL,
        ),
    ] = Tokenizer.ptb,
    spice: Annotated[
        bool | None,
        typer.Option(
            help="Compute SPICE for captions; by default, if everything that it needs is installed.",
            rich_help_panel=SCORES_PANEL,
        ),
    ] = None,
    fid: Annotated[bool, typer.Option(help="Compute FID for images.", rich_help_panel=SCORES_PANEL)] = True,
    fid_weights: Annotated[
        Path | None,
        typer.Option(
            help="File with the Inception weights; downloaded by default.",
            rich_help_panel=SCORES_PANEL,
            show_default=False,
        ),
    ] = None,
    clip: Annotated[
        str,
        typer.Option(
            help="Folder or Hub id of the CLIP model that selects and scores images.", rich_help_panel=SCORES_PANEL
        ),
    ] = CLIP,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="Folder for the result, the table and the images.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = Path("evaluation"),
    model: Model = None,
    device: Device = "auto",
    dtype: DTypeOption = DType.auto,
    quantize: Quantize = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the result as JSON, without the answers.", rich_help_panel=OUTPUT_PANEL),
    ] = False,
) -> None:
    """Evaluate a model on a benchmark, by default with the paper's protocol. An interrupted run can be resumed."""
    options = EvaluationOptions(
        task=task.value,
        data=data,
        model=ModelOptions(model, device, dtype, quantize),
        output=output,
        protocol=protocol.value,
        split=split,
        column=column,
        batch_size=batch_size,
        seed=seed,
        limit=limit,
        tokenizer=tokenizer,
        spice=spice,
        fid=fid,
        fid_weights=fid_weights,
        clip=clip,
    )
    request = request_evaluation(options)
    from ..evaluation.runs import run_evaluation

    result = run_evaluation(request)
    if result is not None:
        result.pop("answers")
        typer.echo(json.dumps(result) if as_json else describe_result(result, request.result_path))

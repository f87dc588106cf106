# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The `lavit` command and its list of commands. Heavy modules are imported by the commands that need them."""

from importlib.metadata import version
from typing import Annotated

import typer

from .ablate import ablate
from .ask import ask
from .caption import caption
from .convert import convert
from .demo import demo
from .draw import draw
from .eval import eval
from .exit_codes import with_exit_codes
from .export_llm import export_llm
from .info import info
from .reconstruct import reconstruct
from .serve import serve
from .tokenize import tokenize


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("lavit_hf"))
        raise typer.Exit


@app.callback()
def lavit(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = (False),
) -> None:
    """LaVIT: one language model that reads and writes images."""


for command in (caption, ask, draw, tokenize, reconstruct, convert, export_llm, eval, ablate, demo, serve, info):
    app.command()(with_exit_codes(command))

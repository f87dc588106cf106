# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit export-llm`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..tasks.options import DType, ModelOptions
from ..tasks.requests import find_model
from .options import Model, StoredDTypeOption


def check_new(path: Path) -> Path:
    """Raises a usage error for an existing folder, or a link to nowhere, before a model is loaded."""
    if os.path.lexists(path):
        raise typer.BadParameter(f"{path} already exists. Pass a folder that does not.")
    return path


def export_llm(
    destination: Annotated[Path, typer.Argument(help="Folder to create; it must not exist yet.", callback=check_new)],
    model: Model = None,
    dtype: StoredDTypeOption = DType.auto,
) -> None:
    """Save only the language model, as a repo that transformers, vLLM and others can load without this package."""
    options = ModelOptions(model, "cpu", dtype)
    find_model(options)
    from ..tasks.exporting import export_language_model

    kind = export_language_model(options, destination)
    typer.echo(f"{destination} is ready: a {kind} with its tokenizer.")

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit info`."""

from typing import Annotated

import typer

from ..tasks.repos import find_repo
from .options import OUTPUT_PANEL


def info(
    model: Annotated[
        str | None, typer.Argument(help="Folder or Hub id; the bundled checkpoint by default.", show_default=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object.", rich_help_panel=OUTPUT_PANEL)
    ] = False,
) -> None:
    """Describe a checkpoint: its sizes, ids, pixel decoder and memory needs, without loading its weights."""
    repo = find_repo(model)
    from ..tasks.describing import print_description

    print_description(model, repo, as_json)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit tokenize`."""

from pathlib import Path
from typing import Annotated

import typer

from ..tasks.options import DType, ModelOptions
from ..tasks.requests import request_pictures
from .options import (
    OUTPUT_PANEL,
    AsJson,
    BatchSize,
    Device,
    DTypeOption,
    Force,
    Images,
    KeepError,
    KeepRatio,
    KeepThreshold,
    Model,
    Seed,
    check_keep,
)


def tokenize(
    images: Images,
    overlay: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for images (PNG) that show which patches were kept.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None,
    force: Force = False,
    keep_ratio: KeepRatio = None,
    keep_threshold: KeepThreshold = None,
    keep_error: KeepError = None,
    batch_size: BatchSize = 8,
    model: Model = None,
    device: Device = "auto",
    dtype: DTypeOption = DType.auto,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Print the token ids of each image as a JSON list."""
    keep = check_keep(keep_ratio=keep_ratio, keep_threshold=keep_threshold, keep_error=keep_error)
    request = request_pictures(images, ModelOptions(model, device, dtype), overlay, force, "--overlay")
    from ..tasks.tokenizing import print_tokens

    print_tokens(request, keep, batch_size, seed, as_json)

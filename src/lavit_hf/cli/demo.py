# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit demo`."""

from typing import Annotated

import typer

from ..tasks.options import DType, ModelOptions
from .options import Device, DTypeOption, Model, Quantize, Seed


SERVER_PANEL = "Server"
DEFAULT_PORT = 7860  # gradio's


def demo(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. 0.0.0.0 accepts other machines; there is no password.",
            rich_help_panel=SERVER_PANEL,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.", rich_help_panel=SERVER_PANEL),
    ] = DEFAULT_PORT,
    model: Model = None,
    device: Device = "auto",
    dtype: DTypeOption = DType.auto,
    quantize: Quantize = None,
    seed: Seed = None,
) -> None:
    """Serve a demo page that reads, draws and inspects images in the browser."""
    from ..page import serve_page

    serve_page(ModelOptions(model, device, dtype, quantize), host, port, seed)

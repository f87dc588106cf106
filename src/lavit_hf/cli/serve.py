# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit serve`."""

from typing import Annotated

import typer

from ..tasks.options import DType, ModelOptions
from .demo import SERVER_PANEL
from .options import Device, DTypeOption, Model, Quantize, Seed


DEFAULT_PORT = 8000  # same as other servers with this API
KEY_VARIABLE = "LAVIT_API_KEY"


def check_key(key: str | None) -> str | None:
    """Raises a usage error for a key that cannot be sent in a header."""
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
        raise typer.BadParameter("an API key must be printable ASCII characters, without spaces around them.")
    return key


def serve(
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. 0.0.0.0 accepts other machines.", rich_help_panel=SERVER_PANEL),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.", rich_help_panel=SERVER_PANEL),
    ] = DEFAULT_PORT,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar=KEY_VARIABLE,
            callback=check_key,
            help="Key that clients must send. Other users of this machine can see options; prefer the variable.",
            rich_help_panel=SERVER_PANEL,
            show_default=False,
        ),
    ] = None,
    remote_images: Annotated[
        bool,
        typer.Option(
            "--remote-images",
            help="Download images from URLs in requests; without it, clients must send the images themselves.",
            rich_help_panel=SERVER_PANEL,
        ),
    ] = False,
    max_batch_size: Annotated[
        int, typer.Option(min=1, help="Maximum number of prompts or images in a batch.", rich_help_panel=SERVER_PANEL)
    ] = 16,
    max_waiting: Annotated[
        int,
        typer.Option(
            min=1,
            help="Maximum number of waiting requests; further ones get status 429.",
            rich_help_panel=SERVER_PANEL,
        ),
    ] = 64,
    model: Model = None,
    device: Device = "auto",
    dtype: DTypeOption = DType.auto,
    quantize: Quantize = None,
    seed: Seed = None,
) -> None:
    """Serve a model with an OpenAI-compatible API: chats with images, and image generation."""
    from ..server import Limits, serve_api

    limits = Limits(remote_images=remote_images, max_batch_size=max_batch_size, max_waiting=max_waiting)
    serve_api(ModelOptions(model, device, dtype, quantize), host, port, seed, api_key, limits)

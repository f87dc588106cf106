# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Serves the page. Checks for errors before loading the model."""

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..tasks.addresses import claim_port, is_loopback
from ..tasks.failures import Failure
from ..tasks.limits import InputLimits
from ..tasks.options import ModelOptions
from ..tasks.requests import find_model


if TYPE_CHECKING:
    import gradio
    from starlette.middleware import Middleware

MAX_SESSIONS = 100  # browsers whose last result is kept
_TEMPORARY_FOLDER = "GRADIO_TEMP_DIR"


def serve_page(options: ModelOptions, host: str, port: int, seed: int | None) -> None:
    """
    Loads a model and serves the page until it is interrupted.

    Args:
        options (`ModelOptions`):
            The model.
        host (`str`):
            Address to listen on.
        port (`int`):
            Port to listen on; 0 picks a free one.
        seed (`int`, *optional*):
            Random seed for requests without one.

    Raises:
        Failure: If gradio is missing, the address cannot be listened on, or the model does not exist.
    """
    check_gradio()
    port = claim_port(host, port)
    find_model(options)
    with _temporary_folder():  # gradio reads its path on import
        from .model import load_page_model
        from .page import build_page

        model = load_page_model(options, seed)
        page = build_page(model)
        url = start(page, host, port)
        typer.echo(f"{model.name} is running at {url} (press Ctrl-C to stop it)")
        if not is_loopback(host):
            typer.echo("It has no password: anyone who can reach this machine can use it.")
        try:
            _wait_for_the_end()
        finally:
            page.close(verbose=False)


def start(page: "gradio.Blocks", host: str, port: int) -> str:
    """
    Starts serving a page in the background.

    Args:
        page (`gradio.Blocks`):
            The page from [`build_page`].
        host (`str`):
            Address to listen on.
        port (`int`):
            A free port.

    Returns:
        `str`: URL of the page.

    Raises:
        Failure: If the port has been taken in the meantime.
    """
    import gradio as gr

    from .theme import CSS, WORDS, make_theme

    limits = InputLimits()
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            theme=make_theme(),
            css=CSS,
            i18n=gr.I18n(en=WORDS),
            max_file_size=limits.picture_bytes,
            app_kwargs={"middleware": [_bounded_bodies(limits)]},
            state_session_capacity=MAX_SESSIONS,
            show_error=True,
            footer_links=[],
            # Only the page: no tunnel, no second server, no recordings.
            share=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            enable_monitoring=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        claim_port(host, port)  # raises an error that explains the problem
        raise Failure(f"the page cannot be served at {host}, port {port}: {error}") from error
    return url


def check_gradio() -> None:
    """Raises a [`Failure`] if gradio is not installed."""
    if find_spec("gradio") is None:
        raise Failure("the page needs gradio, which is not installed. Run `pip install 'lavit_hf[page]'`.")


def _bounded_bodies(limits: InputLimits) -> "Middleware":
    """Creates the middleware that rejects bodies that are too large."""
    from gradio.utils import get_upload_folder
    from starlette.middleware import Middleware

    from .bodies import BoundedBodies

    return Middleware(BoundedBodies, limits=limits, folder=Path(get_upload_folder()))


def _wait_for_the_end() -> None:
    """Waits for SIGTERM, which stops services and containers. Ctrl-C raises `KeyboardInterrupt` as usual."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        stopped.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _temporary_folder() -> Iterator[None]:
    """Creates a temporary folder for uploads and results, which is deleted with the page."""
    if os.environ.get(_TEMPORARY_FOLDER):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lavit-", ignore_cleanup_errors=True) as folder:
        os.environ[_TEMPORARY_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[_TEMPORARY_FOLDER]

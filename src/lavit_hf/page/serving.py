# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The server of the page: what can fail is tried before the model is loaded."""

import errno
import ipaddress
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from ..tasks.failures import Failure
from ..tasks.options import ModelOptions
from ..tasks.requests import find_model


if TYPE_CHECKING:
    import gradio

MAX_UPLOAD_BYTES = 20 * 2**20  # of one file
MAX_SESSIONS = 100  # browsers whose last result is held
_TEMPORARY_FOLDER = "GRADIO_TEMP_DIR"


def serve_page(options: ModelOptions, host: str, port: int, seed: int | None) -> None:
    """
    Loads a model and serves the page until it is interrupted.

    Args:
        options (`ModelOptions`):
            Which model.
        host (`str`):
            Address to listen on.
        port (`int`):
            Port to listen on; 0 takes a free one.
        seed (`int`, *optional*):
            Seed of all draws that name none.

    Raises:
        Failure: If gradio is missing, the address cannot be listened on, or there is no such model.
    """
    check_gradio()
    port = claim_port(host, port)
    find_model(options)
    with _temporary_folder():  # which gradio wants to know when it is imported
        from .model import load_page_model
        from .page import build_page

        model = load_page_model(options, seed)
        page = build_page(model)
        url = start(page, host, port)
        typer.echo(f"{model.name} is at {url} until you press Ctrl-C.")
        if not _is_loopback(host):
            typer.echo("It has no password: everyone who reaches this machine can use it.")
        try:
            _wait_for_the_end()
        finally:
            page.close(verbose=False)


def start(page: "gradio.Blocks", host: str, port: int) -> str:
    """
    Starts to serve a page, and comes back.

    Args:
        page (`gradio.Blocks`):
            What [`build_page`] made.
        host (`str`):
            Address to listen on.
        port (`int`):
            A free port.

    Returns:
        `str`: where the page is.

    Raises:
        Failure: If the port was taken in the meantime.
    """
    import gradio as gr

    from .theme import CSS, WORDS, make_theme

    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            theme=make_theme(),
            css=CSS,
            i18n=gr.I18n(en=WORDS),
            max_file_size=MAX_UPLOAD_BYTES,
            state_session_capacity=MAX_SESSIONS,
            show_error=True,
            footer_links=[],
            # Nothing but the page: no tunnel, no second server, nothing recorded.
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
        claim_port(host, port)  # says what is wrong with it
        raise Failure(f"the page cannot be served at {host}, port {port}: {error}") from error
    return url


def check_gradio() -> None:
    """Raises a [`Failure`] if gradio is not installed."""
    if find_spec("gradio") is None:
        raise Failure("the page needs gradio, which is not installed: pip install 'lavit_hf[page]'")


def claim_port(host: str, port: int) -> int:
    """
    Makes sure that an address can be listened on.

    Args:
        host (`str`):
            Name or number of an address.
        port (`int`):
            The port; 0 finds a free one.

    Returns:
        `int`: the port.

    Raises:
        Failure: If it is in use, may not be used, or the address is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as server:
            return server.getsockname()[1]
    except socket.gaierror as error:
        raise Failure(f"there is no address {host!r}: pass --host 127.0.0.1, or 0.0.0.0 for all.") from error
    except OSError as error:
        raise Failure(_explain(error, host, port)) from error


def _wait_for_the_end() -> None:
    """Waits for a SIGTERM, as services and containers are stopped by; Ctrl-C raises `KeyboardInterrupt` as usual."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        stopped.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use, maybe by another `lavit demo`: choose another by --port {_neighbour(port)}, or "
            "a free one by --port 0."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: pass --host 127.0.0.1, or 0.0.0.0 for all."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} is not open to this user: choose one above 1023 by --port."
    return f"port {port} at {host} cannot be listened on: {error.strerror}"


def _neighbour(port: int) -> int:
    return port + 1 if port < 65535 else port - 1


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _temporary_folder() -> Iterator[None]:
    """A folder of its own for uploads and results, which goes when the page does."""
    if os.environ.get(_TEMPORARY_FOLDER):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lavit-", ignore_cleanup_errors=True) as folder:
        os.environ[_TEMPORARY_FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[_TEMPORARY_FOLDER]

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

from ..tasks.addresses import announce, bracketed, claim_port, is_loopback
from ..tasks.failures import Failure
from ..tasks.limits import InputLimits
from ..tasks.options import ModelOptions
from ..tasks.requests import find_model


if TYPE_CHECKING:
    import gradio
    from starlette.middleware import Middleware

MAX_SESSIONS = 100  # browsers whose last result is kept
ENDING_SIGNALS = ("SIGTERM", "SIGHUP")
NO_PROXY = ("no_proxy", "NO_PROXY")  # the first has precedence
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
    with _ended_by_signals() as ended, _temporary_folder():  # gradio reads its path on import
        from .model import load_page_model
        from .page import build_page

        model = load_page_model(options, seed)
        page = build_page(model)
        try:
            url = start(page, host, port)
            announce(f"{model.name} is running at {url} (press Ctrl-C to stop it)")
            if not is_loopback(host):
                announce("It has no password: anyone who can reach this machine can use it.")
            ended.wait()
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
        Failure: If the port has been taken in the meantime, or the page cannot be reached.
    """
    import gradio as gr
    import httpx

    from .theme import CSS, WORDS, make_theme

    limits = InputLimits()
    claim_port(host, port)  # gradio would notice only after seconds
    try:
        with _without_proxy(host):  # gradio requests the page to start its queue
            _, url, _ = page.launch(
                server_name=bracketed(host),
                server_port=port,
                theme=make_theme(),
                css=CSS,
                i18n=gr.I18n(en=WORDS),
                max_file_size=limits.picture_bytes,
                app_kwargs={"middleware": [_bounded_bodies(page, limits)]},
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
    except httpx.HTTPError as error:
        raise Failure(
            f"the page at {host}, port {port} cannot be reached from this machine: {error}. Pass --host 127.0.0.1."
        ) from error
    return url


def check_gradio() -> None:
    """Raises a [`Failure`] if gradio is not installed."""
    if find_spec("gradio") is None:
        raise Failure("the page needs gradio, which is not installed. Run `pip install 'lavit_hf[page]'`.")


def _bounded_bodies(page: "gradio.Blocks", limits: InputLimits) -> "Middleware":
    """Creates the middleware that rejects bodies that are too large."""
    from gradio.utils import get_upload_folder
    from starlette.middleware import Middleware

    from .bodies import BoundedBodies

    def tracked() -> set[str]:
        # Copies, since requests add files in other threads.
        uploads_and_results = [files.copy() for files in page.temp_file_sets]
        examples = [block.keep_in_cache.copy() for block in list(page.blocks.values())]
        return set().union(*uploads_and_results, *examples)

    return Middleware(BoundedBodies, limits=limits, folder=Path(get_upload_folder()), tracked=tracked)


@contextmanager
def _without_proxy(host: str) -> Iterator[None]:
    """Context manager in which requests to a host of this machine do not go through a proxy."""
    before = {name: os.environ.get(name) for name in NO_PROXY}
    known = next((value for value in before.values() if value), None)
    hosts = ",".join([*([known] if known else []), host, "localhost"])  # as gradio calls 0.0.0.0
    os.environ.update(dict.fromkeys(NO_PROXY, hosts))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Ended(BaseException):
    """Raised in the main thread by a signal to end. Like `KeyboardInterrupt`, it is no error to handle."""


@contextmanager
def _ended_by_signals() -> Iterator[threading.Event]:
    """
    Lets SIGTERM, which stops services and containers, and SIGHUP, which a terminal sends when it is closed, end the
    block at any time. Ctrl-C raises `KeyboardInterrupt` as usual.

    Yields:
        `threading.Event`, which is set by these signals.
    """
    ended = threading.Event()

    def end(*_) -> None:
        if not ended.is_set():  # further signals would interrupt the cleanup
            ended.set()
            raise _Ended

    numbers = [getattr(signal, name) for name in ENDING_SIGNALS if hasattr(signal, name)]  # Windows has no SIGHUP
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            if number == signal.SIGTERM or before[number] != signal.SIG_IGN:  # `nohup` ignores SIGHUP
                signal.signal(number, end)
        yield ended
    except _Ended:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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

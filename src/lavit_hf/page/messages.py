# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Shows errors on the page below the pressed button, until another try succeeds."""

import html
import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from ..tasks.failures import Failure, explain


MOST_SESSIONS = 100  # whose last message is kept until the browser requests it
LONGEST_NAME = 64  # of a session; chosen by the browser

logger = logging.getLogger(__name__)

_last_messages: OrderedDict[str, str] = OrderedDict()


def shown(handler: Callable[..., Any]) -> Callable[..., Any]:
    """
    Decorator that shows exceptions of a handler as messages on the page.

    Args:
        handler (`Callable`):
            The handler of an event.

    Returns:
        `Callable`: the decorated handler.
    """

    @wraps(handler)
    def run(*args, **kwargs):
        try:
            return handler(*args, **kwargs)
        except gr.Error:
            raise
        except Exception as error:
            if not isinstance(error, Failure | ValueError):
                logger.exception("a request failed")
            raise message(explain(error)) from error

    return run


def message(text: str) -> gr.Error:
    """Creates gradio's error for API callers. On the page, a [`problem_area`] shows the text."""
    # The text becomes HTML, and may contain `<image>` or arbitrary file names.
    shown_text = html.escape(text[:1].upper() + text[1:])
    session = getattr(LocalContext.request.get(None), "session_hash", None)
    if session and len(session) <= LONGEST_NAME:
        _last_messages[session] = shown_text
        while len(_last_messages) > MOST_SESSIONS:
            _last_messages.popitem(last=False)
    return gr.Error(shown_text, visible=session is None, print_exception=False)


def problem_area(elem_id: str) -> gr.HTML:
    """Creates an area for error messages, which is hidden until there is one."""
    return gr.HTML(visible=False, elem_id=elem_id, elem_classes=["plain", "problem"])


def show_problems(*places: tuple[gr.events.Dependency, gr.HTML], picture: gr.Image | None = None) -> None:
    """
    Shows error messages of events, and hides all messages of a tab once an event succeeds.

    Args:
        places (`tuple[gradio.events.Dependency, gradio.HTML]`):
            Each event of the tab, with a handler decorated with [`shown`], and the [`problem_area`] for its message.
        picture (`gradio.Image`, *optional*):
            The tab's image. Without an image, success does not hide messages, because an unreadable image is removed
            and its message must remain.
    """
    settings = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    areas = list({area._id: area for _, area in places}.values())

    def hide_all(*pictures: str | None):
        hidden = gr.skip() if None in pictures else gr.HTML(visible=False)
        return hidden if len(areas) == 1 else [hidden] * len(areas)

    for event, area in places:
        event.failure(_last_message, None, area, **settings)
        event.success(hide_all, picture, areas, **settings)


def _last_message(request: gr.Request) -> gr.HTML:
    text = _last_messages.pop(request.session_hash, None)
    return gr.HTML(visible=False) if text is None else gr.HTML(f'<p role="alert">{text}</p>', visible=True)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Errors as messages on the page, beneath the button that was pressed, until a next try succeeds."""

import html
import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from ..tasks.failures import Failure, explain


MOST_SESSIONS = 100  # whose last message is held until their browser asks for it
LONGEST_NAME = 64  # of a session; browsers choose them

logger = logging.getLogger(__name__)

_last_messages: OrderedDict[str, str] = OrderedDict()


def shown(handler: Callable[..., Any]) -> Callable[..., Any]:
    """
    Makes what a handler raises a message on the page.

    Args:
        handler (`Callable`):
            What an event calls.

    Returns:
        `Callable`: the same handler.
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
    """A text as gradio tells it to callers. On the page, a [`problem_area`] shows it."""
    # It becomes HTML, and texts name `<image>` or files of any name.
    shown_text = html.escape(text[:1].upper() + text[1:])
    session = getattr(LocalContext.request.get(None), "session_hash", None)
    if session and len(session) <= LONGEST_NAME:
        _last_messages[session] = shown_text
        while len(_last_messages) > MOST_SESSIONS:
            _last_messages.popitem(last=False)
    return gr.Error(shown_text, visible=session is None, print_exception=False)


def problem_area(elem_id: str) -> gr.HTML:
    """A place for the message of what failed; not there until something does."""
    return gr.HTML(visible=False, elem_id=elem_id, elem_classes=["plain", "problem"])


def show_problems(*places: tuple[gr.events.Dependency, gr.HTML], picture: gr.Image | None = None) -> None:
    """
    Shows what failed, and takes all messages of a tab away when something succeeds.

    Args:
        places (`tuple[gradio.events.Dependency, gradio.HTML]`):
            Each event of the tab, whose handler is one of [`shown`], with the [`problem_area`] of its message.
        picture (`gradio.Image`, *optional*):
            The tab's image, without which nothing counts as a success: one that cannot be read is taken away, which
            must leave the message.
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

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Errors as messages on the page."""

import html
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from ..tasks.failures import Failure, explain


SECONDS_SHOWN = 15

logger = logging.getLogger(__name__)


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
    """A text as gradio shows it to the user."""
    # gradio takes it for HTML, and texts name `<image>` or files of any name.
    shown_text = html.escape(text[:1].upper() + text[1:])
    return gr.Error(shown_text, duration=SECONDS_SHOWN, print_exception=False)

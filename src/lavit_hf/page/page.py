# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The page: a header and three tabs."""

import html

import gradio as gr

from .controls import take_numbers_only
from .draw_tab import add_draw_tab
from .inside_tab import add_inside_tab
from .model import PageModel
from .read_tab import add_read_tab
from .uploads import take_uploads_only


MAX_WAITING = 16  # requests in the queue
DELETE_UPLOADS = (600, 3600)  # interval and minimum age in seconds

HEAD = """
<style>:root {{ --picture-size: {size}px; }}</style>
<h1>LaVIT</h1>
<p>One language model that reads and writes images. Running {name} on {device} in {dtype}.</p>
"""


def build_page(model: PageModel) -> gr.Blocks:
    """
    Builds the page.

    Args:
        model (`PageModel`):
            The model, shared by all users.

    Returns:
        `gradio.Blocks`: the page, which [`start`] serves.
    """
    with gr.Blocks(
        title=f"LaVIT: {model.name}", analytics_enabled=False, fill_width=True, delete_cache=DELETE_UPLOADS
    ) as page:
        gr.HTML(_head(model), elem_id="lavit-head", elem_classes="plain")
        with gr.Tabs():
            with gr.Tab("Read", id="read"):
                read_picture = add_read_tab(model)
            with gr.Tab("Draw", id="draw"):
                add_draw_tab(model)
            with gr.Tab("Look inside", id="inside") as inside:
                add_inside_tab(model, inside, read_picture)
    for block in page.blocks.values():
        take_uploads_only(block)
        take_numbers_only(block)
    # All requests must wait in the queue or are rejected.
    return page.queue(max_size=MAX_WAITING, api_open=False, default_concurrency_limit=1)


def _head(model: PageModel) -> str:
    dtype = str(model.language_model.dtype).removeprefix("torch.")
    facts = {"name": model.name, "device": str(model.language_model.device), "dtype": dtype}
    size = 0 if model.pipeline is None else model.pipeline.picture_size
    return HEAD.format(size=size, **{name: html.escape(value) for name, value in facts.items()})

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Controls and event settings that the tabs share."""

import gradio as gr
import torch

from .model import PageModel
from .uploads import example_paths


AS_TRAINED, A_SHARE = "As trained", "A share of them"

# All that runs the model stands in one line, one at a time.
ON_THE_MODEL = {"concurrency_id": "model", "concurrency_limit": 1}


def selection_controls(model: PageModel) -> tuple[gr.Radio, gr.Slider]:
    """How patches are kept: by the model's own rule, or a share that a slider sets."""
    rule = gr.Radio([AS_TRAINED, A_SHARE], value=AS_TRAINED, label="Patches to keep")
    share = gr.Slider(
        0.05,
        1.0,
        value=round(model.visual_tokenizer.config.keep_ratio, 2),
        step=0.01,
        label="Share of the patches",
        visible=False,
    )
    rule.change(lambda rule: gr.Slider(visible=rule == A_SHARE), rule, share, queue=False, api_visibility="private")
    return rule, share


def keep_ratio(rule: str, share: float) -> float | None:
    """The share of patches to keep; `None` where the model's own rule decides."""
    return float(share) if rule == A_SHARE else None  # browsers write 1.0 as 1


def picture_output(label: str, **kwargs) -> gr.Image:
    """A place for a picture that the model made or that shows what it did."""
    return gr.Image(label=label, interactive=False, elem_classes="picture", **{"buttons": ["fullscreen"], **kwargs})


def example_pictures(picture: gr.Image) -> None:
    """Pictures to start with, where the package has them."""
    paths = example_paths()
    if paths:
        with gr.Column(elem_classes="examples"):
            gr.Examples([[str(path)] for path in paths], picture, label="Or one of these")


def describe_mask(keep_mask: torch.Tensor) -> str:
    """How many patches were kept, in words."""
    kept, patches = int(keep_mask.sum()), len(keep_mask)
    dropped = " What the grey ones show is folded into these." if kept < patches else ""
    return f"{kept} of {patches} patches kept ({kept / patches:.0%}).{dropped}"

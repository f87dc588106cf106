# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Controls and event settings shared by the tabs."""

import html
from collections.abc import Sequence

import gradio as gr

from ..lavit.keep_settings import KeepSettings
from ..tasks.kept import KeptPatches
from .messages import message
from .model import PageModel
from .uploads import example_paths


AS_TRAINED, A_SHARE, AS_NEEDED = "As trained", "A share", "As many as needed"
DEFAULT_ERROR = 0.4
KNOWLEDGE = (
    "This checkpoint only knows {knows}. It describes anything else, such as a photograph, as the {knows} it "
    "resembles most."
)

# All events that run the model share one queue and run one at a time.
ON_THE_MODEL = {"concurrency_id": "model", "concurrency_limit": 1}


def selection_controls(model: PageModel) -> tuple[gr.Radio, gr.Slider, gr.Slider]:
    """Creates controls for which patches to keep: the model's own rule, a share, or the number needed for an error."""
    rules = [AS_TRAINED, A_SHARE, *([] if model.pipeline is None else [AS_NEEDED])]
    rule = gr.Radio(rules, value=AS_TRAINED, label="Patches to keep")
    share = gr.Slider(
        0.05,
        1.0,
        value=round(model.visual_tokenizer.config.keep_ratio, 2),
        step=0.01,
        label="Share of patches",
        visible=False,
    )
    error = gr.Slider(
        0.05,
        0.95,
        value=DEFAULT_ERROR,
        step=0.01,
        label="Allowed error",
        info="How much of the image's features the tokens may lose. A smaller error needs more patches.",
        visible=False,
    )
    rule.change(
        lambda rule: (gr.Slider(visible=rule == A_SHARE), gr.Slider(visible=rule == AS_NEEDED)),
        rule,
        [share, error],
        queue=False,
        api_visibility="private",
    )
    return rule, share, error


def keep_settings(rule: str, share: float, error: float) -> KeepSettings:
    """Returns the settings of the controls for patches to keep; empty for the model's own rule."""
    return {A_SHARE: {"keep_ratio": share}, AS_NEEDED: {"keep_error": error}}.get(rule, {})


def take_numbers_only(block: gr.blocks.Block) -> None:
    """Makes a slider or a number field reject other values, with which gradio fails with messages for developers."""
    if not isinstance(block, gr.Slider | gr.Number):
        return
    preprocess, can_be_empty = block.preprocess, isinstance(block, gr.Number)

    def check(value):
        if not isinstance(value, int | float) and not (value is None and can_be_empty):
            raise message(f"{block.label}: send a number from {block.minimum} to {block.maximum}.")
        return preprocess(value)

    block.preprocess = check


def picture_output(label: str, **kwargs) -> gr.Image:
    """Creates an output for an image from the model."""
    return gr.Image(label=label, interactive=False, **{"buttons": ["fullscreen"], "elem_classes": "picture", **kwargs})


def example_pictures(picture: gr.Image) -> None:
    """Shows example images, if the package contains them."""
    paths = example_paths()
    if paths:
        with gr.Column(elem_classes="examples"):
            gr.Examples([[str(path)] for path in paths], picture, label="Or one of these")


def describe_knowledge(model: PageModel) -> None:
    """Says which images the model knows, if its model card names a single kind."""
    if model.suggestions.knows:
        knows = html.escape(model.suggestions.knows)
        gr.HTML(f"<p>{KNOWLEDGE.format(knows=knows)}</p>", elem_classes=["plain", "note", "knowledge"])


def chips(texts: Sequence[str], box: gr.Textbox) -> None:
    """Shows example texts, which a tap copies to a text field."""
    with gr.Column(elem_classes="chips"):
        gr.Examples([[text] for text in texts], box, label="Examples")


def describe_kept(kept: KeptPatches) -> str:
    """Describes how many patches were kept."""
    count, patches = int(kept.mask.sum()), len(kept.mask)
    dropped = " Dropped patches, in gray, are merged into the kept ones." if count < patches else ""
    error = "" if kept.rebuild_error is None else f" The error is {kept.rebuild_error:.2f}."
    if kept.reaches_keep_error is False:
        error = f" The error is {kept.rebuild_error:.2f} even so: this image needs more patches than there are."
    return f"{count} of {patches} patches kept ({count / patches:.0%}).{dropped}{error}"

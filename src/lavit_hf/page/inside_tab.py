# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The *Look inside* tab: the steps of the model for an image, and the codes of the codebook."""

import html
from collections.abc import Callable
from functools import cache

import gradio as gr
from PIL import Image

from ..tasks.failures import Failure
from .codebook import Match, compare_codes, nearest_codes, nearest_patches
from .controls import (
    ON_THE_MODEL,
    describe_knowledge,
    example_pictures,
    keep_settings,
    picture_output,
    selection_controls,
)
from .drawing import default_settings
from .figures import draw_codes, draw_patch, draw_probabilities, patch_at
from .inspection import Inspection, describe_steps, inspect_images, paint
from .messages import problem_area, show_problems, shown
from .model import PageModel
from .uploads import example_paths, picture_input, read_picture


NEIGHBORS = 3  # codes to generate images of besides the chosen one
PATCHES = 8
STATE_SECONDS = 3600  # how long a browser's last image is kept

EMPTY = '<p class="note">Choose an image to see what each step of the model keeps of it.</p>'
CODE_HINT = (
    "Each image is labelled with its code and the cosine similarity of the two codebook entries (1 means equal). A "
    "code stands for a patch and whatever was merged into it, so patches with the same code need not look alike. An "
    "image drawn from a single code shows what that code stands for; all of them start from the same noise."
)


def add_inside_tab(model: PageModel, tab: gr.Tab, read_picture: gr.Image) -> None:
    """
    Creates the tab.

    Args:
        model (`PageModel`):
            The model.
        tab (`gradio.Tab`):
            The tab. It opens with the last image from this tab or the *Read* tab.
        read_picture (`gradio.Image`):
            Image of the *Read* tab.
    """
    state, looked_into = gr.State(time_to_live=STATE_SECONDS), gr.State(time_to_live=STATE_SECONDS)
    with gr.Row():
        with gr.Column(min_width=280):
            picture = picture_input("Image", "inside-picture")
            example_pictures(picture)
            describe_knowledge(model)
        with gr.Column(min_width=280):
            rules = selection_controls(model)
            start = gr.Button("Look inside", variant="primary", elem_id="inside-start")
            problem = problem_area("inside-problem")
            steps = gr.HTML(EMPTY, elem_id="inside-steps", elem_classes="plain")
    codes, tap_problem, *others = _lay_out_views(model)
    code, show, code_problem, alone, patches = _lay_out_codebook(model)

    look_inside, views = _make_look_inside(model), [state, steps, codes, *others]
    looking = start.click(look_inside, [picture, *rules], views, api_name="look_inside", **ON_THE_MODEL)

    def look_if_new(path: str | None, last_path: str | None, *rules):
        is_new = path is not None and path != last_path
        return look_inside(path, *rules) if is_new else [gr.skip()] * len(views)

    read_picture.change(lambda path: path or gr.skip(), read_picture, picture, queue=False, api_visibility="private")
    opening = tab.select(look_if_new, [picture, looked_into, *rules], views, api_visibility="private", **ON_THE_MODEL)
    for event in (looking, opening):
        event.success(lambda path: path, picture, looked_into, queue=False, api_visibility="private")
    show_code = _make_show_code(model)
    showing = gr.on(
        [show.click, code.submit], show_code, [code, state], [alone, patches], api_name="show_code", **ON_THE_MODEL
    )
    tapping = codes.select(_choose_patch, state, code, queue=False, api_visibility="private")
    tapped = tapping.success(show_code, [code, state], [alone, patches], api_visibility="private", **ON_THE_MODEL)
    show_problems(
        (looking, problem), (opening, problem), (showing, code_problem), (tapping, tap_problem), (tapped, code_problem)
    )


def _lay_out_views(model: PageModel) -> tuple[gr.Image, gr.HTML, gr.Image, gr.Image, gr.Image, gr.Textbox]:
    """
    Creates the codes of patches with an area for problems, their keep probabilities, the model's input, the image
    generated from tokens, and the token ids.
    """
    with gr.Row():
        with gr.Column(min_width=280):
            codes = picture_output("Kept patches and their codes: select one", elem_id="inside-codes")
            problem = problem_area("inside-tap-problem")
        with gr.Column(min_width=280):
            with gr.Row():
                seen = picture_output("As the model sees it", min_width=150)
                painted = picture_output(
                    "Reconstructed from tokens",
                    format="png",
                    visible=model.pipeline is not None,
                    min_width=150,
                    elem_id="inside-painted",
                    elem_classes=["picture", "drawn"],
                )
            with gr.Row():
                likely = picture_output("Keep probability", min_width=150)
                sentence = gr.Textbox(
                    label="Token ids",
                    interactive=False,
                    buttons=["copy"],
                    max_lines=6,
                    min_width=150,
                    elem_id="inside-ids",
                )
    return codes, problem, likely, seen, painted, sentence


def _lay_out_codebook(model: PageModel) -> tuple[gr.Number, gr.Button, gr.HTML, gr.Gallery, gr.Gallery]:
    """
    Creates the input for a code, the button to show it with an area for problems, the image generated from it alone,
    and the patches that it stands for.
    """
    last = model.visual_tokenizer.config.codebook_size - 1
    gr.Markdown("### The codebook")
    with gr.Row(elem_classes="bottom"):
        code = gr.Number(
            value=0,
            precision=0,
            minimum=0,
            maximum=last,
            label=f"Code, 0 to {last}",
            min_width=150,
            elem_id="inside-code",
        )
        show = gr.Button("Show code", min_width=150, elem_id="inside-show")
    problem = problem_area("inside-code-problem")
    with gr.Row():
        alone = _gallery(
            "Drawn from this code alone, and from its neighbors",
            "inside-alone",
            visible=model.pipeline is not None,
        )
        patches = _gallery("Patches with this code, or the nearest ones", "inside-patches")
    gr.Markdown(CODE_HINT, elem_classes="note")
    return code, show, problem, alone, patches


def _make_look_inside(model: PageModel) -> Callable:
    @shown
    def look_inside(path: str | None, rule: str, share: float, error: float):
        image = read_picture(path)
        inspection = inspect_images(model, [image], keep_settings(rule, share, error))[0]
        paints = model.pipeline is not None
        rebuilt = paint(model, [inspection.token_ids], default_settings(model))[0] if paints else None
        return (
            inspection,
            _as_list(describe_steps(model, inspection)),
            draw_codes(inspection),
            draw_probabilities(inspection),
            inspection.square,
            rebuilt,
            " ".join(map(str, inspection.token_ids)),
        )

    return look_inside


def _make_show_code(model: PageModel) -> Callable:
    @cache
    def inspected_examples() -> list[Inspection]:
        paths = example_paths()
        return inspect_images(model, [read_picture(str(path)) for path in paths]) if paths else []

    @shown
    def show_code(code: int | None, inspection: Inspection | None):
        if code is None:
            raise Failure("no code is chosen. Enter a number, or select a patch of an image.")
        similarities = compare_codes(model, code)
        neighbors = nearest_codes(similarities, code, NEIGHBORS)
        examples = [example for example in inspected_examples() if not (inspection and example.shows(inspection))]
        found = nearest_patches(similarities, [inspection, *examples] if inspection else examples, PATCHES)
        alone = [] if model.pipeline is None else _paint_alone(model, neighbors)
        return alone, [(draw_patch(m.inspection, m.patch), _caption(m, code)) for m in found]

    return show_code


@shown
def _choose_patch(inspection: Inspection | None, event: gr.SelectData):
    if inspection is None:
        raise Failure("the image has expired. Press Look inside again.")
    code = inspection.code_of(patch_at(inspection, *event.index))
    if code is None:
        raise Failure("this patch was dropped and has no code. Select a colored one.")
    return code


def _gallery(label: str, elem_id: str, visible: bool = True) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        height="auto",
        object_fit="contain",
        interactive=False,
        buttons=["fullscreen"],
        min_width=280,
        elem_id=elem_id,
        elem_classes=["picture", "small"],
        visible=visible,
    )


def _paint_alone(model: PageModel, neighbors: list[Match]) -> list[tuple[Image.Image, str]]:
    first_code = model.language_model.config.first_code_token_id
    pictures = paint(
        model, [[first_code + match.code] for match in neighbors], default_settings(model), same_noise=True
    )
    return [(picture, _caption(match, neighbors[0].code)) for picture, match in zip(pictures, neighbors)]


def _caption(match: Match, code: int) -> str:
    return f"{match.code}" if match.code == code else f"{match.code} · {match.similarity:.2f}"


def _as_list(steps: list[tuple[str, str]]) -> str:
    rows = "".join(f"<li><b>{html.escape(name)}</b><span>{html.escape(text)}</span></li>" for name, text in steps)
    return f'<ol class="steps">{rows}</ol>'

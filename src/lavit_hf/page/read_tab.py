# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The *Read* tab: describes an image, answers questions about it, and shows the kept patches."""

from collections.abc import Callable

import gradio as gr

from ..tasks.limits import InputLimits
from ..tasks.options import check_text
from ..tasks.reading import CAPTION, Task, answer_to
from ..visualization import draw_keep_mask
from .controls import (
    ON_THE_MODEL,
    chips,
    describe_kept,
    describe_knowledge,
    example_pictures,
    keep_settings,
    picture_output,
    selection_controls,
)
from .messages import problem_area, show_problems, shown
from .model import PageModel
from .reading import find_kept, write_about
from .uploads import HEIGHT, picture_input, read_picture


HINT = (
    "The selector keeps the most informative patches, and each becomes one token that the language model reads. "
    "Fewer patches are faster to read; more of them capture finer detail."
)


def add_read_tab(model: PageModel) -> gr.Image:
    """
    Creates the tab.

    Args:
        model (`PageModel`):
            The model.

    Returns:
        `gradio.Image`: image of the tab.
    """
    with gr.Row():
        with gr.Column(min_width=280):
            picture = picture_input("Image", "read-picture")
            picture_problem = problem_area("read-picture-problem")
            example_pictures(picture)
            describe_knowledge(model)
        with gr.Column(min_width=280):
            describe, describe_problem, caption = _lay_out_description()
            question, ask, ask_problem, answer = _lay_out_question(model)
    with gr.Row():
        with gr.Column(min_width=280):
            overlay = picture_output(
                "Patches read", height=HEIGHT, buttons=["fullscreen", "download"], elem_id="read-overlay"
            )
        with gr.Column(min_width=280):
            rule, share, error = selection_controls(model)
            rule_problem = problem_area("read-rule-problem")
            note = gr.Markdown(HINT, elem_classes="note", elem_id="read-note")

    look, caption_picture, answer_question = _make_handlers(model)
    chosen, seen = [picture, rule, share, error], [overlay, note]
    picture.change(lambda: ("", ""), None, [caption, answer], queue=False, api_visibility="private")
    looking = picture.change(look, chosen, seen, api_name="keep", **ON_THE_MODEL)
    looking.failure(lambda: None, None, picture, queue=False, api_visibility="private")
    turning = gr.on(
        [rule.change, share.change, error.change],
        look,
        chosen,
        seen,
        trigger_mode="always_last",
        api_visibility="private",
        **ON_THE_MODEL,
    )
    describing = describe.click(caption_picture, chosen, [caption, *seen], api_name="caption", **ON_THE_MODEL)
    asking = gr.on(
        [ask.click, question.submit],
        answer_question,
        [question, *chosen],
        [answer, *seen],
        api_name="ask",
        **ON_THE_MODEL,
    )
    show_problems(
        (looking, picture_problem),
        (turning, rule_problem),
        (describing, describe_problem),
        (asking, ask_problem),
        picture=picture,
    )
    return picture


def _lay_out_description() -> tuple[gr.Button, gr.HTML, gr.Textbox]:
    """Creates the button to describe an image, an area for problems, and the description."""
    describe = gr.Button("Describe", variant="primary", elem_id="read-describe")
    problem = problem_area("read-describe-problem")
    return describe, problem, _result("Description", "read-caption")


def _lay_out_question(model: PageModel) -> tuple[gr.Textbox, gr.Button, gr.HTML, gr.Textbox]:
    """Creates the question, the button to ask it, an area for problems, and the answer."""
    questions = model.suggestions.questions
    question = gr.Textbox(label="Question", placeholder=questions[0], max_lines=4, elem_id="read-question")
    chips(questions, question)
    ask = gr.Button("Ask", elem_id="read-ask")
    problem = problem_area("read-ask-problem")
    return question, ask, problem, _result("Answer", "read-answer")


def _make_handlers(model: PageModel) -> tuple[Callable, Callable, Callable]:
    """Creates the handlers that show the kept patches, describe an image, and answer a question."""

    @shown
    def look(path: str | None, rule: str, share: float, error: float):
        if path is None:
            return None, HINT
        image = read_picture(path)
        kept = find_kept(model, image, keep_settings(rule, share, error))
        return draw_keep_mask(image, kept.mask), describe_kept(kept)

    def write(task: Task, path: str | None, rule: str, share: float, error: float):
        image = read_picture(path)
        text, kept = write_about(model, task, image, keep_settings(rule, share, error))
        return text or "(nothing)", draw_keep_mask(image, kept.mask), describe_kept(kept)

    @shown
    def caption_picture(path: str | None, rule: str, share: float, error: float):
        return write(CAPTION, path, rule, share, error)

    @shown
    def answer_question(question: str | None, path: str | None, rule: str, share: float, error: float):
        check_text(InputLimits().check_text(question or ""))
        return write(answer_to(question), path, rule, share, error)

    return look, caption_picture, answer_question


def _result(label: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox(label=label, interactive=False, buttons=["copy"], elem_id=elem_id, elem_classes="result")

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The *Draw* tab: images from a text, or from text and images mixed."""

from collections.abc import Callable

import gradio as gr

from .controls import ON_THE_MODEL, chips
from .drawing import DrawSettings, default_settings, draw
from .messages import problem_area, show_problems, shown
from .model import PageModel
from .uploads import read_pictures


MOST_IMAGES, MOST_CANDIDATES, MOST_STEPS, MOST_GUIDANCE, MOST_TEMPERATURE = 8, 8, 100, 20.0, 2.0
MOST_SEED = 2**53 - 1  # largest integer that is exact in browsers

HINT = "Write `<image>` where an image goes. Without it, images come before the text."


def add_draw_tab(model: PageModel) -> None:
    """
    Creates the tab.

    Args:
        model (`PageModel`):
            The model.
    """
    if model.pipeline is None:
        gr.Markdown(f"This model cannot draw: {model.why_no_pipeline}")
        return
    with gr.Row():
        with gr.Column(min_width=280):
            prompt, pictures = _lay_out_prompt(model)
            num_images = gr.Slider(1, MOST_IMAGES, value=4, step=1, precision=0, label="Number of images")
            with gr.Accordion("Settings", open=False):
                settings = _lay_out_settings(model)
            start = gr.Button("Draw", variant="primary", elem_id="draw-start")
            problem = problem_area("draw-problem")
        with gr.Column(min_width=280):
            drawn = gr.Gallery(
                label="Images",
                columns=2,
                height="auto",
                object_fit="contain",
                format="png",
                interactive=False,
                buttons=["download", "fullscreen"],
                elem_id="draw-drawn",
                elem_classes=["picture", "drawn"],
            )
            note = gr.Markdown(elem_classes="note", elem_id="draw-note")
    drawing = gr.on(
        [start.click, prompt.submit],
        _make_draw_pictures(model),
        [prompt, pictures, num_images, *settings],
        [drawn, note],
        api_name="draw",
        show_progress_on=drawn,
        scroll_to_output=True,
        **ON_THE_MODEL,
    )
    show_problems((drawing, problem))


def _lay_out_prompt(model: PageModel) -> tuple[gr.Textbox, gr.Gallery]:
    prompts = model.suggestions.prompts
    prompt = gr.Textbox(label="What to draw", lines=2, placeholder=prompts[0], elem_id="draw-prompt")
    chips(prompts, prompt)
    pictures = gr.Gallery(
        label="Images for the prompt (optional)",
        file_types=["image"],
        columns=4,
        fit_columns=False,
        height="auto",
        object_fit="contain",
        buttons=[],
        interactive=True,
        elem_id="draw-pictures",
        elem_classes="picture",
    )
    gr.Markdown(HINT, elem_classes="note")
    return prompt, pictures


def _lay_out_settings(model: PageModel) -> tuple[gr.Slider, gr.Slider, gr.Slider, gr.Slider, gr.Number, gr.Slider]:
    """Creates controls for steps, guidance of the U-Net and of the tokens, temperature, seed, and candidates."""
    defaults = default_settings(model)
    candidates = gr.Slider(
        1,
        MOST_CANDIDATES,
        value=1,
        step=1,
        precision=0,
        label="Candidates",
        info="Each image is drawn this many times, and the one that best matches its tokens is kept.",
    )
    steps = gr.Slider(
        1,
        MOST_STEPS,
        value=defaults.steps,
        step=1,
        precision=0,
        label="Steps",
        info="More steps are slower and give finer images.",
    )
    guidance = gr.Slider(
        1.0,
        MOST_GUIDANCE,
        value=defaults.guidance,
        step=0.1,
        label="Guidance",
        info="How closely the image follows the tokens; 1 turns guidance off.",
    )
    token_guidance = gr.Slider(
        1.0,
        MOST_GUIDANCE,
        value=defaults.token_guidance,
        step=0.1,
        label="Token guidance",
        info="How closely the tokens follow the prompt; 1 turns guidance off.",
    )
    temperature = gr.Slider(
        0.0,
        MOST_TEMPERATURE,
        value=defaults.temperature,
        step=0.05,
        label="Temperature",
        info="How much images of one prompt vary; 0 always picks the most likely token.",
    )
    seed = gr.Number(
        value=None if model.seed is None or model.seed > MOST_SEED else model.seed,
        precision=0,
        minimum=0,
        maximum=MOST_SEED,
        label="Seed",
        info="The same seed gives the same images. Leave it empty for new ones each time.",
    )
    return steps, guidance, token_guidance, temperature, seed, candidates


def _make_draw_pictures(model: PageModel) -> Callable:
    @shown
    def draw_pictures(
        prompt: str,
        pictures: list[tuple[str, str | None]] | None,
        num_images: int,
        steps: int,
        guidance: float,
        token_guidance: float,
        temperature: float,
        seed: int | None,
        candidates: int,
        progress=gr.Progress(),  # noqa: B008, gradio finds it by this default
    ):
        images = read_pictures([path for path, _ in pictures or ()])
        settings = DrawSettings(num_images, steps, guidance, token_guidance, temperature, candidates, seed)

        def report(done: int, total: int, what: str) -> None:
            progress((done, total), desc=what)

        output, seed = draw(model, prompt, images, settings, report)
        return output.images, _describe(output, seed)

    return draw_pictures


def _describe(output, seed: int) -> str:
    lengths = ", ".join(str(len(ids)) for ids in output.image_token_ids)
    flagged = sum(output.nsfw_content_detected or ())
    warning = f" {flagged} flagged by the safety checker and blacked out." if flagged else ""
    return f"Seed {seed}. Tokens: {lengths}.{warning}"

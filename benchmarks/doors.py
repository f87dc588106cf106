# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Compares all interfaces of a LaVIT: whether the model gets the same inputs through each of them, and whether they
generate the same images.

    python benchmarks/doors.py           # prints the table
    python benchmarks/doors.py --write   # also writes it to docs/serving.md
"""

import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from unittest.mock import patch

import numpy as np
import torch
import typer
from memory_table import replace_between
from PIL import Image
from random_original import ROOT
from timing import format_table
from transformers import pipeline
from transformers.utils import logging
from typer.testing import CliRunner

from lavit_hf import LaVITForCausalLM, LaVITPipeline, LaVITProcessor, bundled_checkpoint
from lavit_hf.cli.app import app
from lavit_hf.page.drawing import default_settings, draw
from lavit_hf.page.model import load_page_model
from lavit_hf.page.reading import write_about
from lavit_hf.tasks.dtypes import choose_dtype
from lavit_hf.tasks.options import DType, ModelOptions
from lavit_hf.tasks.reading import CAPTION, answer_to


PAGE = ROOT / "docs" / "serving.md"
MARKS = ("<!-- begin: doors.py -->", "<!-- end: doors.py -->")
PICTURE = str(ROOT / "examples" / "images" / "emoji" / "tiger.png")
QUESTION, PROMPT, SEED = "What category is this?", "red apple", 0
SHORT = {"max_new_tokens": 2, "min_new_tokens": 1}

Inputs = tuple[list[int], torch.Tensor]


# Interfaces that read an image: they answer a question about it, or caption it if there is no question.


def ask_processor(repo: str, question: str | None) -> None:
    processor, model = LaVITProcessor.from_pretrained(repo), LaVITForCausalLM.from_pretrained(repo)
    text = "" if question is None else processor.format_question(question)
    model.generate(**processor(images=PICTURE, text=text), **SHORT)


def ask_chat_template(repo: str, question: str | None) -> None:
    processor, model = LaVITProcessor.from_pretrained(repo), LaVITForCausalLM.from_pretrained(repo)
    inputs = processor.apply_chat_template(make_chat(question), tokenize=True, return_dict=True)
    model.generate(**inputs, **SHORT)


def ask_command_line(repo: str, question: str | None) -> None:
    command = ["caption"] if question is None else ["ask", question]
    result = CliRunner().invoke(app, [*command, PICTURE, "--model", repo, "--max-new-tokens", "2"])
    if result.exit_code:
        raise RuntimeError(result.stderr)


def ask_page(repo: str, question: str | None) -> None:
    task = CAPTION if question is None else answer_to(question)
    write_about(load_page_model(ModelOptions(repo, "cpu", DType.auto, None)), task, Image.open(PICTURE))


def ask_image_text_to_text(repo: str, question: str | None) -> None:
    pipeline("image-text-to-text", model=repo)(make_chat(question), generate_kwargs=SHORT)


def ask_any_to_any(repo: str, question: str | None) -> None:
    pipeline("any-to-any", model=repo)(make_chat(question), generate_kwargs=SHORT)


def ask_image_to_text(repo: str, question: str | None) -> None:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers' notice about the task alias fails to format
    captioner = pipeline("image-to-text", model=repo)
    logging.set_verbosity(verbosity)
    captioner(PICTURE, generate_kwargs=SHORT)


def ask_example(repo: str, question: str | None) -> None:
    script = runpy.run_path(str(ROOT / "examples" / ("caption.py" if question is None else "ask.py")))
    script["main"](*([] if question is None else [question]), images=[Path(PICTURE)], model=repo, device="cpu")


def make_chat(question: str | None) -> list[dict]:
    """A chat in the standard format, with a question about the image, or only the image."""
    text = [] if question is None else [{"type": "text", "text": question}]
    return [{"role": "user", "content": [{"type": "image", "path": PICTURE}, *text]}]


CAPTION_ONLY = '`pipeline("image-to-text")(path)`'
READING_DOORS: dict[str, Callable[[str, str | None], None]] = {
    "processor, `format_question`": ask_processor,
    "`apply_chat_template`": ask_chat_template,
    "`lavit ask`, `lavit caption`": ask_command_line,
    "page": ask_page,
    'chat to `pipeline("image-text-to-text")`': ask_image_text_to_text,
    'chat to `pipeline("any-to-any")`': ask_any_to_any,
    CAPTION_ONLY: ask_image_to_text,
    "`examples/ask.py`, `examples/caption.py`": ask_example,
}


@contextmanager
def watch_inputs() -> Iterator[list[Inputs]]:
    """Records the ids and pixels that are passed to `generate`."""
    seen, generate = [], LaVITForCausalLM.generate

    def note(self, input_ids=None, pixel_values=None, **kwargs):
        seen.append((input_ids[0].tolist(), pixel_values[0].float()))
        return generate(self, input_ids, pixel_values, **kwargs)

    with patch.object(LaVITForCausalLM, "generate", note):
        yield seen


def read_through(door: str, repo: str, question: str | None) -> Inputs:
    """The model's inputs when it is called through an interface."""
    with watch_inputs() as seen:
        READING_DOORS[door](repo, question)
    return seen[0]


# Interfaces that generate images. Random numbers come from a generator, or from the global one if an interface doesn't
# accept a generator. The command line and the demo page use the dtype of the stored weights if the device is fast in
# it; diffusers uses fp32.


def paint_as_commands_do(repo: str) -> Image.Image:
    painter = LaVITPipeline.from_pretrained(repo, dtype=choose_dtype(repo, torch.device("cpu")))
    return painter(PROMPT, generator=torch.Generator().manual_seed(SEED)).images[0]


def paint_with_pipeline_globally(repo: str) -> Image.Image:
    painter = LaVITPipeline.from_pretrained(repo)
    torch.manual_seed(SEED)
    return painter(PROMPT).images[0]


def paint_on_command_line(repo: str) -> Image.Image:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "drawn.png"
        result = CliRunner().invoke(app, ["draw", PROMPT, "--model", repo, "--seed", str(SEED), "--output", str(file)])
        if result.exit_code:
            raise RuntimeError(result.stderr)
        return Image.open(file).copy()


def paint_on_page(repo: str) -> Image.Image:
    model = load_page_model(ModelOptions(repo, "cpu", DType.auto, None))
    output, _ = draw(model, PROMPT, [], replace(default_settings(model), seed=SEED), lambda *_: None)
    return output.images[0]


def paint_any_to_any(repo: str, prompt: str | list[dict] = PROMPT) -> Image.Image:
    pipe = pipeline("any-to-any", model=repo)
    torch.manual_seed(SEED)
    return pipe(text=prompt, generation_mode="image")[0]["generated_image"]


def paint_in_chat(repo: str) -> Image.Image:
    return paint_any_to_any(repo, [{"role": "user", "content": PROMPT}])


# Each interface, and what it is compared with: the pipeline with the same dtype and source of random numbers.
PAINTING_DOORS: dict[str, tuple[Callable[[str], Image.Image], Callable[[str], Image.Image]]] = {
    "`lavit draw`": (paint_on_command_line, paint_as_commands_do),
    "page": (paint_on_page, paint_as_commands_do),
    '`pipeline("any-to-any")(text=...)`': (paint_any_to_any, paint_with_pipeline_globally),
    'chat to `pipeline("any-to-any")`': (paint_in_chat, paint_with_pipeline_globally),
}


def is_same_picture(door: str, repo: str) -> bool:
    """Whether an interface generates the same image as [`LaVITPipeline`] for the same seed."""
    picture, expected = (np.asarray(paint(repo)) for paint in PAINTING_DOORS[door])
    return np.array_equal(picture, expected)


# The table.


def table(repo: str) -> str:
    """A table of all interfaces, as Markdown."""
    questions = {"same ids for a question": QUESTION, "same ids for a caption": None}
    first = next(iter(READING_DOORS))
    expected = {question: read_through(first, repo, question) for question in questions.values()}
    rows = []
    for door in READING_DOORS | PAINTING_DOORS:
        cells = []
        for question in questions.values():
            asks = door in READING_DOORS and (question is None or door != CAPTION_ONLY)
            cells.append(_is_same(read_through(door, repo, question), expected[question]) if asks else None)
        cells.append(is_same_picture(door, repo) if door in PAINTING_DOORS else None)
        rows.append((door, *({True: "yes", False: "**no**", None: ""}[cell] for cell in cells)))
    return format_table(("interface", *questions, "same image for a seed"), rows)


def _is_same(inputs: Inputs, expected: Inputs) -> bool:
    return inputs[0] == expected[0] and torch.allclose(inputs[1], expected[1], atol=0.02)  # pixels in bf16 or fp32


def main(
    model: Annotated[
        str, typer.Option(help="Path or Hub id of the model.", show_default="lavit-emoji")
    ] = bundled_checkpoint(),
    write: Annotated[bool, typer.Option(help="Also write the table to docs/serving.md.")] = False,
) -> None:
    """Print the table."""
    text = table(model)
    print(text)
    if write:
        PAGE.write_text(replace_between(MARKS, PAGE.read_text(), text))


if __name__ == "__main__":
    typer.run(main)

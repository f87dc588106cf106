# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Times a new user's first steps: a clone, an environment, a caption, an answer, a generated image, an adapter, and a
small LaVIT trained from scratch. Runs the commands from the documentation in a fresh clone of this repository.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from markdown_it import MarkdownIt
from timing import print_machine, print_table


ROOT = Path(__file__).parents[1]
PAGES = {  # the headings of the sections to run, in the order of the page
    "README.md": ("Read an image", "Generate an image", "Use the command line"),
    "docs/train.md": ("Fine-tune on your own folder",),
    "docs/train-from-nothing.md": None,  # the whole page
}
LEFT_OUT = (
    "installs packages",
    "needs the 26 GB weights",
)  # reasons in `not run:` comments of blocks that are skipped here, too
FILE_NAME = re.compile(r"# ([\w-]+\.yaml)\n")
LONGEST = 60  # maximum number of characters of a command in the table


@dataclass(frozen=True)
class Step:
    """
    A command on a page.

    Args:
        heading (`str`): Heading of its section.
        shown (`str`): Its name in the table.
        command (`list[str]`): The command to run.
    """

    heading: str
    shown: str
    command: list[str]


def read_steps(markdown: str, headings: tuple[str, ...] | None, folder: Path) -> Iterator[Step]:
    """
    Yields the steps of a page: each shell command, and each Python snippet together with all previous ones, whose
    names it can use. YAML files shown on the page are written in their turn.

    Args:
        markdown (`str`): The page.
        headings (`tuple[str]`, *optional*): The sections to run; all by default.
        folder (`Path`): Folder of the clone.

    Returns:
        `Iterator[Step]`: The steps, in order.
    """
    heading, python = "", ""
    tokens = MarkdownIt().parse(markdown)
    for before, token in zip([None, *tokens], tokens):
        if token.type == "inline" and before.type == "heading_open":
            heading = token.content
        excuse = before.content if before is not None and before.type == "html_block" else ""
        left_out = (headings and heading not in headings) or any(reason in excuse for reason in LEFT_OUT)
        if token.type != "fence" or left_out:
            continue
        if token.info == "bash":
            for line in token.content.replace("\\\n", "").splitlines():
                yield Step(heading, line, ["bash", "-c", line])
        elif token.info == "python":
            python += token.content
            yield Step(heading, "the Python snippet", ["python", "-c", python])
        elif token.info == "yaml" and (name := FILE_NAME.match(token.content)):
            (folder / name[1]).write_text(token.content)


def run_step(step: Step, folder: Path, environment: dict[str, str]) -> float:
    """Runs a step and returns its time in seconds. Exits if it fails."""
    start = time.perf_counter()
    process = subprocess.run(step.command, cwd=folder, env=environment, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"`{step.shown}` failed:\n{process.stdout[-1000:]}{process.stderr[-2000:]}")
    return time.perf_counter() - start


def all_steps(folder: Path) -> Iterator[Step]:
    """All first steps, starting with the clone."""
    yield Step("Install", "git clone", ["git", "clone", "--quiet", str(ROOT), str(folder)])
    venv = f"{sys.executable} -m venv .venv && .venv/bin/pip install --quiet -c constraints.txt '.[training,peft]'"
    yield Step("Install", "pip install '.[training,peft]'", ["bash", "-c", venv])
    for page, headings in PAGES.items():
        yield from read_steps((folder / page).read_text(), headings, folder)


def main() -> None:
    """Run all steps and print a table."""
    print_machine()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "lavit_hf"
        environment = os.environ | {"PATH": f"{folder}/.venv/bin:{os.environ['PATH']}"}
        rows = []
        for step in all_steps(folder):
            seconds = run_step(step, folder if folder.is_dir() else folder.parent, environment)
            rows.append((step.heading, f"`{step.shown[:LONGEST]}`", f"{seconds:.0f}"))
            print(*rows[-1], file=sys.stderr)
        print_table(("section", "step", "seconds"), rows)


if __name__ == "__main__":
    typer.run(main)

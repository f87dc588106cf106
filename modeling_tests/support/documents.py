# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The documents' blocks of code: found, and run as a reader would run them."""

import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from typer.testing import CliRunner

from lavit_hf.cli.app import app


ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "hub_configs/*.md", "src/lavit_hf/checkpoints/*/*.md")
    for path in ROOT.glob(pattern)
)
LINKED = ("examples", "hub_configs", "modeling_tests", "src")  # what readers find beside them in a checkout

# Other than by these endings, words with a dot are as often names of Python as of files.
NAMED_FILE = re.compile(r"(?<![\w./*<{-])[\w-][\w./-]*\.(?:yaml|py|sh)\b(?![*(])")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S.*?) -->", flags=re.DOTALL)
FILE_NAME = re.compile(r"# ([\w-]+\.yaml)\n")
SHELL_SYNTAX = re.compile(r"[|<>;&$`]")
READ = {"json": json.loads, "yaml": yaml.safe_load}
SHOWN = "text"  # for readers only
OUTPUT = "<!-- output -->"  # above a block: it is what the block before it prints


@dataclass(frozen=True)
class Block:
    """
    A fenced block of a page.

    Args:
        language (`str`):
            What stands behind the fence.
        code (`str`):
            What stands between the fences.
        line (`int`):
            The page's line that the code begins on.
        excuse (`str`, *optional*):
            Why it is not run: the comment `<!-- not run: reason -->` above it.
        is_output (`bool`, defaults to `False`):
            Whether it is what the block before it prints: the comment `<!-- output -->` above it.
    """

    language: str
    code: str
    line: int
    excuse: str | None
    is_output: bool = False


def read_blocks(markdown: str) -> list[Block]:
    """The fenced blocks of a page."""
    tokens = MarkdownIt().parse(markdown)
    return [
        Block(token.info.strip(), token.content, token.map[0] + 2, _excuse(before), _announces_output(before))
        for before, token in zip([None, *tokens], tokens)
        if token.type == "fence"
    ]


def read_links(markdown: str) -> list[str]:
    """Where the links and images of a page lead, other pages' anchors cut off; not those to the web."""
    targets = [
        token.attrs.get("href") or token.attrs.get("src")
        for block in MarkdownIt().parse(markdown)
        for token in block.children or ()
        if token.type in ("link_open", "image")
    ]
    files = (target.split("#")[0] for target in targets if not re.match("[a-z]+:", target))
    return [target for target in files if target]


def find_missing_files(text: str, folder: Path) -> list[str]:
    """
    Files that a text names and that there are not: neither under this path, from the text's folder or the repository's
    root, nor anywhere under this name, nor made by a block of the text.

    Args:
        text (`str`):
            A page, or a file with comments.
        folder (`Path`):
            Where it lies.
    """
    made = set(re.findall(r"^# ([\w-]+\.yaml)$", text, flags=re.MULTILINE))
    shown = "".join(block.code for block in read_blocks(text) if block.language == SHOWN)
    names = sorted(set(NAMED_FILE.findall(text)) - set(NAMED_FILE.findall(shown)) - made)
    return [name for name in names if not _is_there(name, folder)]


def _is_there(name: str, folder: Path) -> bool:
    if (ROOT / name).exists() or (folder / name).exists():
        return True
    return "/" not in name and any(next((ROOT / part).rglob(name), None) for part in (*LINKED, "benchmarks", "docs"))


def prepare_folder(folder: Path) -> None:
    """Makes a folder look like a checkout to the blocks that run in it."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)


def run_blocks(page: str, blocks: list[Block]) -> None:
    """
    Runs blocks in order, in the current folder, and compares what they print with the outputs that the page shows.
    Python shares its names, as in one session. YAML that starts with a comment of a file's name becomes that file.

    Args:
        page (`str`):
            Named in tracebacks.
        blocks (`list[Block]`):
            Blocks without an excuse.

    Raises:
        AssertionError: If a block prints something other than the output that follows it on the page.
        ValueError: If nothing is known to do with a block's language.
    """
    names, printed = {"__name__": "__main__"}, ""
    for block in blocks:
        if block.is_output:
            assert printed.strip() == block.code.strip(), f"{page}:{block.line}: the block before prints\n{printed}"
        else:
            printed = _run_block(page, block, names)


def _run_block(page: str, block: Block, names: dict) -> str:
    """What a block prints."""
    if block.language == "python":
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), names)
        return printed.getvalue()
    if block.language == "bash":
        return run_commands(block.code)
    if block.language in READ:
        READ[block.language](block.code)
        if named := FILE_NAME.match(block.code):
            Path(named[1]).write_text(block.code)
    elif block.language != SHOWN:
        raise ValueError(
            f"{page}:{block.line} has a block of {block.language!r}: mark what is no python, bash, json, yaml or "
            "text as `<!-- not run: reason -->`."
        )
    return ""


def run_commands(script: str) -> str:
    """
    Runs what a block of bash says. Plain commands of `lavit` and `python` run in this process, which has the libraries
    loaded; all else in a shell.

    Returns:
        `str`: What it prints.

    Raises:
        AssertionError: If a command fails.
    """
    commands = [shlex.split(line, comments=True) for line in script.replace("\\\n", " ").splitlines()]
    commands = [command for command in commands if command]
    if SHELL_SYNTAX.search(script) or any(command[0] not in RUN_HERE for command in commands):
        return _run_in_shell(script)
    return "".join(RUN_HERE[name](arguments) for name, *arguments in commands)


def _run_lavit(arguments: list[str]) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"lavit {shlex.join(arguments)}: {result.output}"
    return result.stdout


def _run_python(arguments: list[str]) -> str:
    with patch.object(sys, "argv", arguments), redirect_stdout(io.StringIO()) as printed:
        try:
            runpy.run_path(arguments[0], run_name="__main__")
        except SystemExit as end:
            assert not end.code, f"python {shlex.join(arguments)}: {end.code}"
    return printed.getvalue()


RUN_HERE = {"lavit": _run_lavit, "python": _run_python}


def _run_in_shell(script: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, f"{script}\n{process.stdout[-2000:]}\n{process.stderr[-4000:]}"
    return process.stdout


def _announces_output(before: Token | None) -> bool:
    return before is not None and before.type == "html_block" and before.content.strip() == OUTPUT


def _excuse(before: Token | None) -> str | None:
    match = None if before is None or before.type != "html_block" else NOT_RUN.search(before.content)
    return None if match is None else match["reason"]

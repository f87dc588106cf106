# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Commands of `lavit` as tests run them."""

import json
import re
import signal
import sys

from typer.testing import CliRunner

from lavit_hf.cli.app import app


STEPS = ("--steps", "1", "--guidance", "1")


def heed_interrupts() -> None:
    """In the process to be: the tests may run in the background of a script, where interrupts are ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# For `subprocess.Popen`, of a process that is to be interrupted.
HEEDING_INTERRUPTS = {} if sys.platform == "win32" else {"preexec_fn": heed_interrupts}


def run(*arguments, **kwargs):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **kwargs)


def succeed(*arguments, **kwargs) -> str:
    result = run(*arguments, **kwargs)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def fail(*arguments, exit_code: int = 1, **kwargs) -> str:
    result = run(*arguments, **kwargs)
    assert result.exit_code == exit_code, result.output
    assert "Traceback" not in result.stderr
    if exit_code == 1:
        assert len(result.stderr.splitlines()) == 1
    return " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())


def json_lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]

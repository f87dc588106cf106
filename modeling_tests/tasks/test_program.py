# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit` as a program: what it refuses before it imports anything heavy, and how it ends."""

import gc
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from benchmark_files import coco_name, write_coco
from lavit_hf import LaVITConfig
from lavit_hf.tasks.devices import check_device
from lavit_hf.tasks.failures import Failure, report
from lavit_hf.tasks.loading import load_visual_tokenizer
from lavit_hf.tasks.loading_note import ERASE_LINE, hide_loading, show_loading
from lavit_hf.tasks.model_kinds import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAMES
from lavit_hf.tasks.options import ModelOptions
from lavit_hf.tasks.repos import MODEL_TYPE


# Runs each command line in one process, and tells what it said and whether torch was imported.
REFUSALS = """
import json, sys
from typer.testing import CliRunner
sys.argv = ["lavit"]
from lavit_hf.cli.app import app

for arguments in json.loads(sys.stdin.read()):
    result = CliRunner().invoke(app, arguments)
    print(json.dumps([result.exit_code, result.stderr, "torch" in sys.modules]))
"""

ENDING = """
import atexit, sys, tempfile, threading, time
sys.argv[0] = "lavit"  # as the program, which imports nothing heavy before it knows its command
from lavit_hf.cli.leaving import Leave

class Slow:
    def __del__(self):
        print("the interpreter went through its objects")

with Leave():
    keep = Slow()
    keep.itself = keep
    folder = tempfile.TemporaryDirectory(dir=sys.argv[1])
    atexit.register(print, "atexit")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    print("result")
    {ending}
"""


def run_python(code: str, *arguments, **kwargs) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, text=True, env=buffered, **{"capture_output": True, **kwargs})


class TestRefusals:
    def test_before_torch_is_imported(self, golden, repos, tmp_path):
        picture, repo = str(golden.image_paths[0]), str(repos["highres"])
        taken = tmp_path / "taken.png"
        taken.write_text("mine")
        new = str(tmp_path / "new.png")
        (orphan := tmp_path / "orphan").mkdir()
        (orphan / ADAPTER_CONFIG_NAME).write_text(json.dumps({"base_model_name_or_path": str(tmp_path / "gone")}))
        (orphan / ADAPTER_WEIGHTS_NAMES[0]).touch()
        (link := tmp_path / "link").symlink_to("nowhere")
        (picture_link := tmp_path / "link.png").symlink_to("nowhere.png")
        (benchmark := tmp_path / "coco").mkdir()
        (write_coco(benchmark) / "val2014" / coco_name(1)).unlink()
        cases = {
            "no such file": ["caption", "nowhere.png"],
            "--force": ["draw", "a cat", "-o", str(taken)],
            "link.png already exists": ["draw", "a cat", "-o", str(picture_link)],
            "File name too long": ["draw", "a cat", "-o", str(tmp_path / f"{'x' * 245}.png")],
            "because /dev/null is a file": ["reconstruct", picture, "-o", "/dev/null"],
            "1001 steps are more than the 1000": ["draw", "a cat", "-o", new, "-m", repo, "--steps", "1001"],
            "1002 steps are more than the 1000": ["reconstruct", picture, "-o", new, "-m", repo, "--steps", "1002"],
            "'meta' cannot be used": ["caption", picture, "-m", repo, "--device", "meta"],
            "'' cannot be used": ["caption", picture, "-m", repo, "--device", ""],
            "'--token-guidance': Input should be": ["draw", "a cat", "-o", new, "--token-guidance", "nan"],
            "'--guidance': inf is not a": ["draw", "a cat", "-o", new, "--guidance", "inf"],
            "'--temperature': inf is not a": ["draw", "a cat", "-o", new, "--temperature", "inf"],
            "is a file": ["draw", "a cat", "-o", str(taken / "new.png")],
            "multiple of": ["draw", "a cat", "-o", new, "-m", repo, "--height", "33"],
            "is not one of 1:1": ["draw", "a cat", "-o", new, "-m", repo, "--aspect-ratio", "7:1"],
            "No such option": ["caption", picture, "--nope"],
            "already exists": ["convert", str(golden.original), str(tmp_path)],
            "already been converted": ["convert", repo, str(tmp_path / "new")],
            "config.json is missing": ["info", str(tmp_path)],
            "not a Hub id": ["ask", "What?", picture, "-m", str(tmp_path / "nowhere")],
            "exported is not a Hub id": ["export-llm", new, "-m", str(tmp_path / "exported")],
            "text is empty": ["ask", " ", picture],
            "is an adapter for a model that cannot be used": ["caption", picture, "-m", str(orphan)],
            "already": ["export-llm", str(link)],
            "there is no folder": ["eval", "coco", "--data", str(tmp_path / "nowhere"), "--tokenizer", "words"],
            "1 of the 5 annotated images are not in": [
                "eval",
                "coco",
                "--data",
                str(benchmark),
                "--tokenizer",
                "words",
            ],
        }
        self.check(cases)
        assert taken.read_text() == "mine"

    def test_of_what_is_served(self, tmp_path):
        for package in ("fastapi", "gradio", "uvicorn", "python_multipart"):
            if find_spec(package) is None:
                pytest.skip(f"{package} is not installed: pip install '.[page,serve]'")
        self.check(
            {
                f"{name} is not a Hub id": [command, "--port", "0", "-m", str(tmp_path / name)]
                for command, name in (("serve", "served"), ("demo", "shown"))
            }
        )

    @staticmethod
    def check(cases: dict[str, list[str]]) -> None:
        process = run_python(REFUSALS, input=json.dumps(list(cases.values())))
        assert process.returncode == 0, process.stderr
        results = [json.loads(line) for line in process.stdout.splitlines()]
        for message, (exit_code, said, has_torch) in zip(cases, results, strict=True):
            assert exit_code in (1, 2) and message in said, (message, said)
            assert not has_torch, message

    def test_knows_the_model_type(self):
        assert LaVITConfig.model_type == MODEL_TYPE


class TestDevices:
    def test_no_driver(self, monkeypatch):
        monkeypatch.setattr("lavit_hf.tasks.devices.runpy.run_path", lambda path: {"cuda": "13.0", "hip": None})
        monkeypatch.setattr("lavit_hf.tasks.devices.CUDA_DRIVER", "libnowhere.so.1")
        with pytest.raises(Failure, match="'cuda:1' cannot be used: there is no NVIDIA driver"):
            check_device("cuda:1")

    def test_torch_without_cuda(self, monkeypatch):
        facts = {"cuda": None, "__version__": "2.14.1+cpu"}
        monkeypatch.setattr("lavit_hf.tasks.devices.runpy.run_path", lambda path: facts)
        with pytest.raises(Failure, match=r"torch 2\.14\.1\+cpu was built without CUDA"):
            check_device("cuda")

    @pytest.mark.parametrize("name", ["auto", "cpu", "mps", "cudax"])
    def test_others_are_left_to_torch(self, name):
        check_device(name)

    def test_rocm_is_left_to_torch(self, monkeypatch):
        monkeypatch.setattr("lavit_hf.tasks.devices.runpy.run_path", lambda path: {"cuda": None, "hip": "6.4"})
        monkeypatch.setattr("lavit_hf.tasks.devices.CUDA_DRIVER", "libnowhere.so.1")
        check_device("cuda")


class TestLeaving:
    @pytest.mark.parametrize(
        ("ending", "exit_code", "message"),
        [
            ("pass", 0, ""),
            ("sys.exit()", 0, ""),
            ("sys.exit(3)", 3, ""),
            ("sys.exit('no cat')", 1, "no cat"),
            ("raise KeyboardInterrupt", 130, ""),
            ("1 / 0", 1, "ZeroDivisionError"),
        ],
    )
    def test_does_all_but_take_the_interpreter_to_pieces(self, tmp_path, ending, exit_code, message):
        process = run_python(ENDING.format(ending=ending), tmp_path)
        assert process.returncode == exit_code
        assert process.stdout.splitlines() == ["result", "thread", "atexit"]
        assert process.stderr.strip().rpartition("\n")[2].startswith(message) and bool(process.stderr) == bool(message)
        assert list(tmp_path.iterdir()) == []  # the temporary folder

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    def test_results_that_cannot_be_written(self, tmp_path):
        with open("/dev/full", "w") as full:
            process = run_python(
                ENDING.format(ending="pass"),
                tmp_path,
                capture_output=False,
                stdout=full,
                stderr=subprocess.PIPE,
            )
        assert process.returncode == 1
        assert process.stderr.splitlines() == ["lavit: standard output: [Errno 28] No space left on device"]

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
    @pytest.mark.parametrize("option", ["--help", "--version"])
    def test_help_that_cannot_be_written(self, option):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "lavit_hf.cli", option]
            process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert process.returncode == 1
        assert process.stderr.splitlines() == ["lavit: standard output: [Errno 28] No space left on device"]

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
    def test_closed_streams_are_empty_ones(self, tmp_path):
        """As some services start programs. What is opened next must not receive what is printed."""
        code = """
import sys
from lavit_hf.cli.streams import prepare_streams
prepare_streams()
with open(sys.argv[1], "w") as file:
    assert file.fileno() > 2
    print("result")
    print("problem", file=sys.stderr)
    file.write(repr(sys.stdin.read()))
"""
        place = tmp_path / "file"
        subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code, place], check=True)
        assert place.read_text() == "''"

    @pytest.mark.slow
    def test_characters_that_the_output_cannot_encode(self, monkeypatch):
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        code = "from lavit_hf.cli.streams import prepare_streams; prepare_streams(); print('\N{SNOWMAN}')"
        assert run_python(code).stdout == "\\u2603\n"

    @pytest.mark.slow
    def test_interrupted_command_leaves_nothing_half_written(self, golden, repos, tmp_path):
        code = """
import os, sys

def interrupt(*_):
    raise KeyboardInterrupt

sys.argv[0] = "lavit"
from lavit_hf.cli.__main__ import main
from lavit_hf.lavit import atomic_files
atomic_files.os.fsync = interrupt
main()
"""
        command = ["tokenize", golden.image_paths[0], "--model", repos["highres"], "--overlay", tmp_path / "kept"]
        process = run_python(code, *command)
        assert process.returncode == 130, process.stderr
        assert process.stdout == process.stderr == ""
        assert list((tmp_path / "kept").iterdir()) == []


def test_garbage_is_collected_once_a_model_is_loaded(repos):
    gc.disable()
    try:
        visual_tokenizer = load_visual_tokenizer(str(repos["highres"]), ModelOptions(device="cpu"))
        assert gc.isenabled() and gc.get_freeze_count() > 0
        assert all(parameter.requires_grad is not None for parameter in visual_tokenizer.parameters())
    finally:
        gc.unfreeze()
        gc.enable()


class TestLoadingNote:
    @pytest.mark.slow
    @pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
    def test_terminal_shows_it_until_the_model_is_loaded(self, golden, repos):
        terminal, stderr = os.openpty()
        command = ["-m", "lavit_hf.cli", "caption", str(golden.image_paths[0]), "--model", str(repos["lowres"])]
        process = subprocess.run([sys.executable, *command], stderr=stderr, stdout=subprocess.PIPE, text=True)
        said = os.read(terminal, 100_000).decode()
        os.close(stderr)
        os.close(terminal)
        assert process.returncode == 0 and process.stdout.strip()
        assert said == f"loading lowres{ERASE_LINE}"

    @pytest.mark.parametrize(("is_terminal", "note"), [(True, f"loading org/lavit{ERASE_LINE}"), (False, "")])
    def test_errors_take_its_place(self, is_terminal, note, monkeypatch, capsys):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
        show_loading("org/lavit")
        report("no such picture")
        hide_loading()
        assert capsys.readouterr().err == f"{note}lavit: no such picture\n"

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Scripts of training end in one sentence and an exit code where their user can mend it."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from lavit_hf.training.command_line import run_script
from lavit_hf.training.errors import TrainingError
from training_runs import EXAMPLES


SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if "load_settings(" in path.read_text())
RUNNABLE = [name for name in SCRIPTS if name != "pretokenize_ray.py"]  # which needs ray
# What each needs to get as far as looking for a folder.
NAMES_A_REPO = {
    "finetune.py": {"model": "@", "dataset": "none", "output_dir": "out"},
    "initialize_visual_tokenizer.py": {"encoder": "@", "output": "out"},
    "pretokenize.py": {"visual_tokenizer": "@", "dataset": "none", "output": "out"},
    "pretrain.py": {"visual_tokenizer": "@", "text_config": {}, "dataset": "none", "output_dir": "out"},
    "train_patch_autoencoder.py": {"vae": "@", "dataset": "none", "output_dir": "out"},
    "train_pixel_decoder.py": {"tokenizer": "@", "vae": "none", "dataset": "none", "output_dir": "out"},
    "train_token_selection.py": {"model": "@", "dataset": "none", "output_dir": "out"},
    "train_visual_tokenizer.py": {"model": "@", "dataset": "none", "output_dir": "out"},
}
NAMES_DATA = {
    "fit_patch_autoencoder.py": {"dataset": "@", "output": "out"},
    "train_text_tokenizer.py": {"dataset": "@", "output": "out"},
}


@pytest.fixture
def fail(tmp_path, monkeypatch, capsys):
    """Runs a script that fails, and gives the one line that it prints."""
    monkeypatch.chdir(tmp_path)

    def fail(script: str, settings: dict | None = None) -> str:
        if settings is not None:
            Path("run.yaml").write_text(json.dumps(settings))  # JSON is YAML
        monkeypatch.setattr(sys, "argv", [script, "nope.yaml" if settings is None else "run.yaml"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        assert end.value.code == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert [path.name for path in tmp_path.iterdir()] in ([], ["run.yaml"])
        return line

    return fail


def test_all_scripts_are_tested():
    assert sorted(NAMES_A_REPO.keys() | NAMES_DATA.keys()) == RUNNABLE
    for script in SCRIPTS:
        assert (EXAMPLES / script).read_text().endswith("    run_script(main)\n")


@pytest.mark.parametrize("script", RUNNABLE)
class TestScripts:
    def test_missing_run_file(self, fail, script):
        assert fail(script) == f"{script}: there is no run file nope.yaml."

    def test_unknown_setting(self, fail, script):
        settings = NAMES_A_REPO.get(script) or NAMES_DATA[script]
        message = fail(script, {**settings, "learnin_rate": 1})
        assert message == f"{script}: the run file has unknown settings: learnin_rate."

    def test_missing_folder(self, fail, script, tmp_path):
        settings = NAMES_A_REPO.get(script) or NAMES_DATA[script]
        ((name, _),) = [entry for entry in settings.items() if entry[1] == "@"]
        message = fail(script, {**settings, name: str(tmp_path / "nowhere")})
        if script in NAMES_A_REPO:
            expected = f"there is no folder {tmp_path}/nowhere, which {name} is set to."
            assert message == f"{script}: {expected}"
        else:
            assert message.startswith(f"{script}: the split 'train' of {tmp_path}/nowhere cannot be loaded: ")


class TestRunScript:
    @pytest.mark.parametrize("error", [TrainingError("no\n  rows"), OSError("no rows")])
    def test_one_line(self, error, capsys, monkeypatch):
        def main():
            raise error

        monkeypatch.setattr(sys, "argv", ["folder/script.py"])
        with pytest.raises(SystemExit) as end:
            run_script(main)
        assert end.value.code == 1
        assert capsys.readouterr().err == "script.py: no rows\n"

    def test_other_errors_keep_their_traceback(self):
        with pytest.raises(ZeroDivisionError):
            run_script(lambda: 1 / 0)

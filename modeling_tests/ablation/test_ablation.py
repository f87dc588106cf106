# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Ablations: plans, what is run of them and how often, and what is reported, with scripts that only count."""

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from command_line import HEEDING_INTERRUPTS, fail, succeed


pytest.importorskip("yaml")
pytest.importorskip("matplotlib")

from lavit_hf.ablation.ablating import run_plan
from lavit_hf.ablation.plans import Figure, find_plans, load_plan
from lavit_hf.ablation.reporting import SUMMARY_NAME, Spread
from lavit_hf.ablation.running import DONE_NAME, Runner, read_figures
from lavit_hf.ablation.steps import chain_of
from lavit_hf.tasks.failures import Failure


# Writes what it was called with, and fails where a file says so.
SCRIPT = """
import json, pathlib, sys, yaml
settings = yaml.safe_load(open(sys.argv[1]))
here = pathlib.Path(__file__).parent
with open(here / "calls.txt", "a") as file:
    print(json.dumps([pathlib.Path(__file__).stem, settings]), file=file)
if (here / "broken").exists() and settings.get("width") == 3:
    sys.exit("width 3 is not for us")
folder = pathlib.Path(settings["folder"])
value = settings["width"] + 0.1 * settings["seed"] if "width" in settings else None
if value is None:
    value = 100 * json.loads((pathlib.Path(settings["trained"]) / "figures.json").read_text())["value"]
(folder / "figures.json").write_text(json.dumps({"value": value}))
"""
CHAIN = {
    "train": {
        "script": "train.py",
        "output": "folder",
        "settings": {"width": 1, "seed": "{seed}", "data": "{data}/x"},
    },
    "measure": {"script": "measure.py", "output": "folder", "settings": {"trained": "{train}"}},
}
PLAN = {
    "question": "Does width help?",
    "paper": "section 9",
    "chain": "chain.yaml",
    "steps": ["train", "measure"],
    "seeds": [0, 1],
    "arms": {"narrow": None, "wide": {"label": "very wide", "train": {"width": 3}}},
    "figures": {
        "measure.value": {"label": "score", "digits": 1},
        "train.value": {"label": "share", "percent": True},
        "train.seconds": {"label": "s"},
    },
    "headline": "measure.value",
    "plot": {"x": "train.value", "y": "measure.value"},
}


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "plans"
    folder.mkdir()
    for name in ("train", "measure"):
        (folder / f"{name}.py").write_text(SCRIPT)
    (folder / "chain.yaml").write_text(yaml.safe_dump(CHAIN, sort_keys=False))
    write_plan(folder)
    return folder


def write_plan(folder: Path, name: str = "width", **changed) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(PLAN | changed, sort_keys=False))
    return path


def calls(folder: Path) -> list[list]:
    path = folder / "calls.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(path: Path, work: Path, seeds=(0, 1), jobs: int = 1) -> Path:
    return run_plan(load_plan(path), seeds, work, {"data": "somewhere"}, jobs)


class TestRuns:
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_every_arm_with_every_seed_once(self, folder, tmp_path, jobs):
        run(folder / "width.yaml", tmp_path / "work", jobs=jobs)
        trained = sorted((s["width"], s["seed"], s["data"]) for name, s in calls(folder) if name == "train")
        assert trained == [(1, 0, "somewhere/x"), (1, 1, "somewhere/x"), (3, 0, "somewhere/x"), (3, 1, "somewhere/x")]
        run(folder / "width.yaml", tmp_path / "work", jobs=jobs)
        assert len(calls(folder)) == 8

    def test_ablations_share_what_they_have_in_common(self, folder, tmp_path):
        other = write_plan(folder, "other", arms={"same": {"train": {"width": 1}}, "wider": {"train": {"width": 5}}})
        run(folder / "width.yaml", tmp_path / "work")
        before = len(calls(folder))
        run(other, tmp_path / "work")
        assert [s["width"] for name, s in calls(folder)[before:] if name == "train"] == [5, 5]

    def test_a_later_step_is_another_one_after_another_training(self, folder, tmp_path):
        plan = load_plan(folder / "width.yaml")
        narrow, wide = (chain_of(plan, arm, 0, tmp_path, {"data": "d"}) for arm in plan.arms)
        assert narrow[1].folder != wide[1].folder
        assert narrow[1].settings["trained"] == str(narrow[0].folder)

    def test_a_failure_is_named_and_what_was_done_stays(self, folder, tmp_path):
        (folder / "broken").touch()
        with pytest.raises(Failure, match=r"the step train \w+ failed: width 3 is not for us .*step\.log"):
            run(folder / "width.yaml", tmp_path / "work")
        before = len(calls(folder))
        (folder / "broken").unlink()
        run(folder / "width.yaml", tmp_path / "work")
        again = [s["width"] for name, s in calls(folder)[before:] if name == "train"]
        assert sorted(again) == [1, 3, 3]  # what had been done of the narrow ones was not done again

    def test_seconds_of_a_failed_try_count(self, folder, tmp_path):
        plan = load_plan(folder / "width.yaml")
        step = chain_of(plan, "narrow", 0, tmp_path / "work", {"data": "d"})[0]
        step.folder.mkdir(parents=True)
        (step.folder / DONE_NAME).write_text(json.dumps({"done": False, "seconds": 1000.0}))
        with pytest.raises(Failure, match="has not been run"):
            read_figures(step)
        Runner().run([[step]])
        assert 1000 < read_figures(step)["seconds"] < 1100 and read_figures(step)["value"] == 1

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interruption_ends_the_step_and_it_is_taken_again(self, folder, tmp_path, number):
        started, go_on = folder / "started", folder / "go on"
        (folder / "train.py").write_text(
            f"import pathlib, time\npathlib.Path({str(started)!r}).touch()\n"
            f"while not pathlib.Path({str(go_on)!r}).exists():\n    time.sleep(0.05)\n" + SCRIPT
        )
        command = ["ablate", "--plans", str(folder), "--work", str(tmp_path / "work"), "--data", "somewhere"]
        process = subprocess.Popen(
            [sys.executable, "-m", "lavit_hf.cli", *command], stderr=subprocess.PIPE, text=True, **HEEDING_INTERRUPTS
        )
        while not started.exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + number and "Traceback" not in said
        (record,) = (json.loads(path.read_text()) for path in (tmp_path / "work").rglob(DONE_NAME))
        assert record["done"] is False and not calls(folder)  # the step's process has ended too, and did nothing
        go_on.touch()
        run(folder / "width.yaml", tmp_path / "work")
        assert len(calls(folder)) == 8

    def test_a_shared_step_that_fails_is_not_taken_again_by_those_who_wait(self, folder, tmp_path):
        script = f"open({str(folder / 'starts')!r}, 'a').write('x')\nimport sys, time\ntime.sleep(1)\nsys.exit('no')\n"
        (folder / "train.py").write_text(script)
        arms = {name: {"measure": {"number": number}} for number, name in enumerate(("one", "two", "three"))}
        with pytest.raises(Failure, match="failed: no"):
            run(write_plan(folder, "shared", arms=arms), tmp_path / "work", seeds=(0,), jobs=3)
        assert (folder / "starts").read_text() == "x"

    def test_two_at_once_do_not_do_the_same(self, folder, tmp_path):
        threads = [
            threading.Thread(target=run, args=(folder / "width.yaml", tmp_path / "work"), daemon=True)
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(calls(folder)) == 8


class TestReport:
    def test_means_and_deviations(self, folder, tmp_path):
        report = run(folder / "width.yaml", tmp_path / "work")
        results = json.loads((report / "results.json").read_text())
        assert results["seeds"] == [0, 1] and results["question"] == "Does width help?"
        assert results["figures"]["wide"]["measure.value"] == pytest.approx([300, 310])
        lines = (report / "table.md").read_text().splitlines()
        assert lines[0] == "Does width help? (Paper, section 9.)"
        assert lines[2:4] == ["|  | score | share, % | s |", "| --- | ---: | ---: | ---: |"]
        assert lines[4].startswith("| narrow | 105.0 ± 7.1 | 105.0 ± 7.1 | ")
        assert lines[5].startswith("| very wide | 305.0 ± 7.1 | 305.0 ± 7.1 | ")
        assert Image.open(report / "plot.png").size == (900, 600)

    def test_one_row_of_each_in_the_table_of_all(self, folder, tmp_path):
        other = write_plan(folder, "another", headline="train.value")
        for path in (folder / "width.yaml", other, folder / "width.yaml"):
            run(path, tmp_path / "work", seeds=(0,))
        with open(tmp_path / "work" / SUMMARY_NAME, newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["ablation"] for row in rows] == ["another", "width"]
        assert rows[1]["arms"] == "narrow: 100.0; very wide: 300.0" and rows[1]["figure"] == "score"
        assert rows[0]["arms"] == "narrow: 100.0; very wide: 300.0" and rows[0]["figure"] == "share, %"

    def test_deviation_is_the_samples(self):
        spread = Spread((1.0, 2.0, 4.0))
        assert spread.mean == pytest.approx(7 / 3) and spread.deviation == pytest.approx(1.527525)
        assert Spread((1234.5,)).show(Figure("a", "a", digits=0)) == "1,234"


class TestRefusals:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"steps": ["train", "dance"]}, "has no step dance, only train, measure"),
            ({"arms": {"a": {"tarin": {}}}}, "the arm a sets tarin"),
            ({"headline": "measure.valu"}, "measure.valu is to be shown"),
            ({"figures": {"measure.value": {"label": "a", "color": "red"}}}, "has unknown keys: color"),
            ({"chain": "chains.yaml"}, r"there is no file .*chains\.yaml"),
            ({"arms": {"a": {"train": {"width": "{length}"}}}}, r"width: train\.width refers to length"),
        ],
    )
    def test_of_plans(self, folder, tmp_path, changed, message):
        write_plan(folder, **changed)
        with pytest.raises(Failure, match=message):
            run(folder / "width.yaml", tmp_path / "work")
        assert not calls(folder)

    def test_of_what_is_missing(self, folder):
        (folder / "width.yaml").write_text("question: Why?\narms: {}\n")
        with pytest.raises(Failure, match="is missing chain, steps, figures, headline, plot"):
            load_plan(folder / "width.yaml")

    def test_of_names(self, folder, tmp_path):
        with pytest.raises(Failure, match=r"there is no ablation height in .*, only width"):
            find_plans(folder, ["height"])
        with pytest.raises(Failure, match="has no ablation plans"):
            find_plans(tmp_path / "nowhere")

    def test_of_a_script_that_is_gone(self, folder):
        (folder / "measure.py").unlink()
        with pytest.raises(Failure, match=r"the step measure names the script .*measure\.py, which does not exist"):
            load_plan(folder / "width.yaml")


class TestCommand:
    def test_lists_and_runs(self, folder, tmp_path):
        arguments = ("ablate", "--plans", str(folder), "--work", str(tmp_path / "work"), "--data", str(tmp_path))
        assert "width: Does width help?" in succeed(*arguments, "--list") and not calls(folder)
        table = succeed(*arguments, "width", "--seeds", "5")
        assert "| very wide | 350.0 | 350.0 | " in table and "over 1 seeds" not in table
        assert {settings["seed"] for name, settings in calls(folder) if name == "train"} == {5}

    def test_refuses(self, folder, tmp_path):
        arguments = ("ablate", "--plans", str(folder), "--work", str(tmp_path / "work"))
        assert "no ablation height" in fail(*arguments, "height")
        fail(*arguments, "--seeds", "one", exit_code=2)
        fail("ablate", "--work", str(folder / "train.py"), exit_code=2)

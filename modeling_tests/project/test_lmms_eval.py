# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""lmms-eval itself runs LaVIT on the tasks in `examples/lmms_eval`, by its own command line: `make test-lmms-eval`."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest
from datasets import Dataset, Image
from PIL import Image as PILImage

from command_line import json_lines, succeed
from documents import ROOT
from lavit_hf import LaVITForCausalLM, LaVITProcessor, bundled_checkpoint
from lavit_hf.tasks.loading import make_generator
from lavit_hf.tasks.reading import CAPTION, Task, answer_to, generate_texts
from text_scores import score_by_forward


pytest.importorskip("lmms_eval.api")  # a folder in examples/ has the name lmms_eval, too

EXAMPLES = ROOT / "examples"
ROWS = json.loads((EXAMPLES / "lmms_eval" / "emoji.json").read_text())
PICTURES = [str(EXAMPLES / "images" / "emoji" / row["picture"]) for row in ROWS]
QUESTION = ROWS[0]["question"]
EXACT = ("--device", "cpu", "--dtype", "float32")
TASKS = (
    "lavit_emoji_caption",
    "lavit_emoji_question",
    "lavit_emoji_choice",
    "lavit_vqav2_val",
    "lavit_nocaps_val",
)
LAUNCHERS = {1: (), 2: ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")}


@dataclass
class Run:
    """What lmms-eval wrote: of each task the scores, and of each document the answer and the rest, in order."""

    scores: dict[str, dict]
    samples: dict[str, list[dict]]

    def answers(self, task: str) -> list:
        return [sample["filtered_resps"] for sample in self.samples[task]]

    def check_score(self, task: str, metric: str, expected: float) -> None:
        score = self.scores[task][f"{metric},none"]
        assert score == pytest.approx(expected)
        assert score > 0


@pytest.fixture(scope="module", params=LAUNCHERS, ids=lambda count: f"{count}_processes")
def run(request, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("lmms_eval")
    for name in ("lmms_eval", "images"):
        shutil.copytree(EXAMPLES / name, folder / name)
    put_data_in_place(folder / "lmms_eval")
    command = [sys.executable, *LAUNCHERS[request.param], "-m", "lmms_eval", "--tasks", ",".join(TASKS)]
    command += ["--model", "lavit_hf", "--model_args", "pretrained=lavit-emoji,dtype=float32", "--device", "cpu"]
    command += ["--include_path", folder / "lmms_eval", "--output_path", folder / "out", "--log_samples"]
    command += ["--batch_size", "3"]
    settings = {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    settings |= {"ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(command, env=os.environ | settings, cwd=folder, capture_output=True, text=True)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-8000:]
    assert output.count("Running on rank") == request.param
    return read_run(folder / "out")


def put_data_in_place(tasks: Path) -> None:
    """Data of the form of VQAv2's and of NoCaps' stands in for them; the rest of their tasks is as it is shipped."""
    pictures = {"image": PICTURES, "image_id": [*range(len(ROWS))]}
    questions = {"question": [f" {QUESTION}\n"] * len(ROWS), "question_id": [*range(len(ROWS))]}
    write_task(tasks, "lavit_vqav2_val", pictures | questions | {"answers": annotate()})
    write_task(tasks, "lavit_nocaps_val", pictures | {"annotations_captions": [[row["name"]] * 2 for row in ROWS]})


def annotate() -> list[list[dict]]:
    """Of ten people, as many as the row's number say what is right."""
    return [
        [{"answer": row["answer"] if person < number else "a thing", "answer_id": person} for person in range(10)]
        for number, row in enumerate(ROWS)
    ]


def write_task(tasks: Path, name: str, columns: dict[str, list]) -> None:
    Dataset.from_dict(columns).cast_column("image", Image()).to_parquet(tasks / f"{name}.parquet")
    path = tasks / f"{name}.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("dataset_path")]
    lines += ["dataset_path: parquet", "dataset_kwargs:", f"  data_files: {{validation: {name}.parquet}}"]
    path.write_text("\n".join(lines))


def read_run(folder: Path) -> Run:
    (results,) = folder.glob("*/*_results.json")
    samples = {}
    for task in TASKS:
        (path,) = folder.glob(f"*/*_samples_{task}.jsonl")
        samples[task] = sorted(json_lines(path.read_text()), key=lambda sample: sample["doc_id"])
    return Run(json.loads(results.read_text())["results"], samples)


def write(task: Task, **settings) -> list[str]:
    """What the model answers when lmms-eval is not there."""
    processor = LaVITProcessor.from_pretrained(bundled_checkpoint())
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype="float32")
    samples = [task.prepare(processor, PILImage.open(picture)) for picture in PICTURES]
    return generate_texts(task, samples, processor, model, make_generator(0, model.device)[0], settings)


def test_is_listed():
    """Among the models of lmms-eval, by the entry point of the installed package."""
    from lmms_eval.models import get_model_manifest

    assert get_model_manifest("lavit_hf").simple_class_path == "lavit_hf.lmms_eval_plugin.LaVIT"


@pytest.mark.parametrize("path", sorted((EXAMPLES / "lmms_eval").glob("*.yaml")), ids=lambda path: path.stem)
def test_tasks_are_whole(path):
    """Each is called as its file, and lmms-eval has the functions that it names, which loading imports."""
    from lmms_eval.utils import load_yaml_config

    config = load_yaml_config(yaml_path=str(path), mode="full")
    assert config["task"] == path.stem
    assert callable(config["doc_to_visual"])
    assert all(callable(metric["aggregation"]) or metric["aggregation"] == "mean" for metric in config["metric_list"])


def test_package_does_without():
    code = (
        "import sys, lavit_hf\n"
        "for name in lavit_hf.__all__: getattr(lavit_hf, name)\n"
        "print('lmms_eval' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_captions_are_those_of_the_command_line(run):
    captions = [line["caption"] for line in json_lines(succeed("caption", *PICTURES, *EXACT, "--json"))]
    assert run.answers("lavit_emoji_caption") == captions
    right = [caption.lower() == row["name"] for caption, row in zip(captions, ROWS)]
    run.check_score("lavit_emoji_caption", "exact_match", mean(right))


def test_answers_are_those_of_the_command_line(run):
    answers = [line["answer"] for line in json_lines(succeed("ask", QUESTION, *PICTURES, *EXACT, "--json"))]
    assert run.answers("lavit_emoji_question") == answers
    right = [answer.lower() == row["answer"] for answer, row in zip(answers, ROWS)]
    run.check_score("lavit_emoji_question", "exact_match", mean(right))


def test_choices_are_the_likeliest(run):
    processor = LaVITProcessor.from_pretrained(bundled_checkpoint())
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype="float32")
    names = [row["name"] for row in ROWS]
    right = []
    for picture, name, choices in zip(PICTURES, names, run.answers("lavit_emoji_choice")):
        image = PILImage.open(picture)
        scores = [score_by_forward(model, processor, [image], "", other) for other in names]
        assert [float(number) for number, _ in choices] == pytest.approx([-score for score in scores], rel=1e-3)
        right.append(names[scores.index(max(scores))] == name)
    run.check_score("lavit_emoji_choice", "acc", mean(right))


def test_vqa_accuracy(run):
    """The original's settings, and the mean over ten times nine people of what three of them would agree to."""
    answers = write(answer_to(QUESTION), min_new_tokens=2)
    assert run.answers("lavit_vqav2_val") == answers
    accuracies = []
    for answer, people in zip(answers, annotate()):
        said = [person["answer"] == answer for person in people]
        accuracies.append(mean(min(1, (sum(said) - one) / 3) for one in said))
    run.check_score("lavit_vqav2_val", "exact_match", mean(accuracies))


@pytest.mark.skipif(shutil.which("java") is None, reason="the tokenizer of the caption scorers needs Java")
def test_caption_scores(run):
    from pycocoevalcap.cider.cider import Cider

    captions = write(CAPTION, num_beams=2, min_new_tokens=8, max_new_tokens=36)
    assert run.answers("lavit_nocaps_val") == captions
    references = {number: [row["name"]] * 2 for number, row in enumerate(ROWS)}
    score, _ = Cider().compute_score(references, {number: [caption] for number, caption in enumerate(captions)})
    run.check_score("lavit_nocaps_val", "nocaps_CIDEr", score)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Two processes on the CPU, with gloo, learn what one learns from the same global batches, by DDP and by FSDP2.

Rows are ragged: in some steps a process has no image at all, or none has. What differs is the order of sums.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training_runs import SUPPORT


SCENARIOS = [
    "causal",
    "causal-frozen",
    "causal-lora",
    "causal-checkpointing",
    "causal-lora-checkpointing",
    "pretraining",
    "pretraining-frozen",
    "pretraining-checkpointing",
    "features",
    "tokenizer",
    "tokenizer-checkpointing",
]

pytestmark = pytest.mark.slow


def launch(output: Path, num_processes: int, way: str) -> Path:
    output.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={num_processes}", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, str(SUPPORT / "train_together.py"), str(output), way, *SCENARIOS],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return output


@pytest.fixture(scope="module", autouse=True)
def needs():
    pytest.importorskip("peft")
    pytest.importorskip("vector_quantize_pytorch")


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return launch(tmp_path_factory.mktemp("processes") / "one", 1, "ddp")


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(request, tmp_path_factory) -> Path:
    return launch(tmp_path_factory.mktemp("processes") / request.param, 2, request.param)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_two_learn_what_one_learns(one, two, scenario):
    expected, first, second = (
        torch.load(path) for path in (one / f"{scenario}-0.pt", two / f"{scenario}-0.pt", two / f"{scenario}-1.pt")
    )
    assert first["is_sharded"] == (two.name == "fsdp")
    assert first["losses"] == pytest.approx(expected["losses"], abs=1e-4)
    assert expected["weights"].keys() == first["weights"].keys() == second["weights"].keys()
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
        torch.testing.assert_close(weight, expected["weights"][name], atol=1e-5, rtol=1e-4, msg=name)
    changed = {name for name, weight in first["weights"].items() if not torch.equal(weight, first["start"][name])}
    assert changed and not any(".encoder." in name for name in changed)

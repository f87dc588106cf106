# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the tests of training share: the scripts in examples/ run as a user runs them, on tiny models and images."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from conftest import tiny_visual_config
from lavit_hf import LaVITDetokenizerConfig, LaVITImageProcessor, LaVITVisualTokenizerForPreTraining


SUPPORT = Path(__file__).parent
EXAMPLES = SUPPORT.parents[1] / "examples"
SIDE = 32  # of the tiny visual tokenizer's images, in pixels


def load_script(name: str) -> ModuleType:
    """`examples/<name>.py` as a module."""
    path = EXAMPLES / f"{name}.py"
    if str(path.parent) not in sys.path:  # where a script finds the modules beside it
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    script = importlib.util.module_from_spec(spec)
    sys.modules[name] = script  # where dataclasses look their module up
    spec.loader.exec_module(script)
    return script


def write_run(path: Path, **settings) -> Path:
    """Writes a run file for a few steps on the CPU, with `settings` on top."""
    common = {
        "output_dir": str(path.with_suffix("")),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
    path.write_text(yaml.safe_dump(common | settings))
    return path


def run_script(script: ModuleType, run: Path, *overrides: str) -> Path:
    """Runs a script as from the command line, and gives its `output_dir`."""
    with patch.object(sys, "argv", [script.__file__, str(run), *overrides]):
        script.main()
    return Path(yaml.safe_load(run.read_text())["output_dir"])


def run_on_processes(script: ModuleType, run: Path, number: int, output: Path, *overrides: str) -> None:
    """Runs a script by accelerate on several processes of the CPU, with gloo."""
    # Named `--multi_gpu`, it is for CPUs too: with `--cpu` accelerate starts one process, unless by MPI.
    options = {"num_processes": number, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no"}
    options["main_process_port"] = 0  # any that is free
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += [f"--{name}={value}" for name, value in options.items()]
    command += [script.__file__, str(run), f"--output_dir={output}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]


def callbacks_of(script: ModuleType, run: Path) -> list[type]:
    """Kinds of the callbacks that a script gives its trainer. Ends the run before its training."""

    class Found(Exception):
        pass

    def end(trainer, **kwargs):
        raise Found(*map(type, trainer.callback_handler.callbacks))

    with patch.object(script.LaVITTrainer, "train", end):
        try:
            run_script(script, run)
        except Found as found:
            return list(found.args)
    raise AssertionError(f"{script.__file__} does not train")


def logged(output: Path, name: str = "loss") -> list[float]:
    """A figure at every step that logged it, read from the last checkpoint."""
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for entry in history if name in entry]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a saved model."""
    return load_file(folder / "model.safetensors")


def write_pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Images of two colors each, no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    paths = [folder / f"picture_{number:02d}.png" for number in range(count)]
    for path in paths:
        pixels = np.tile(generator.integers(0, 255, 3, dtype=np.uint8), (SIDE, SIDE, 1))
        left, top = generator.integers(0, SIDE // 2, 2)
        pixels[top : top + SIDE // 2, left : left + SIDE // 2] = generator.integers(0, 255, 3)
        Image.fromarray(pixels).save(path)
    return paths


def write_tokenizer(folder: Path, **settings) -> Path:
    """Saves a tiny visual tokenizer before its training, always with the same weights."""
    torch.manual_seed(0)
    config = tiny_visual_config(
        merger_softmax="masked",
        detokenizer_config=LaVITDetokenizerConfig(
            num_patches=16,
            feature_size=32,
            codebook_dim=8,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            cross_attention_dims=(),
        ),
        **settings,
    )
    LaVITVisualTokenizerForPreTraining(config).save_pretrained(folder)
    LaVITImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Settings of a run: a YAML file, with overrides from the command line."""

import dataclasses
import importlib
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState
from transformers import HfArgumentParser, TrainingArguments

from ..fast_dtypes import is_slow
from .checkpoints import last_checkpoint
from .errors import TrainingError
from .records import read_record, write_record


logger = logging.getLogger(__name__)

RUN_NAME = "run.json"
# Settings that contain a folder or a Hub id.
REPO_SETTINGS = (
    "model", "encoder", "visual_tokenizer", "tokenizer", "detokenizer", "vae", "unet", "text_model", "text_tokenizer",
)  # fmt: skip
# Settings that may change when a run is resumed, because they don't affect what it computes, up to rounding.
# Where accumulating gradients would affect it, `LaVITTrainer` refuses to.
FREE_TO_CHANGE = {
    "logging_steps", "save_steps", "eval_steps", "save_total_limit", "report_to", "run_name", "output_dir",
    "logging_dir", "dataloader_num_workers", "disable_tqdm", "max_steps_this_time",
    "bf16", "log_level", "per_device_train_batch_size", "gradient_accumulation_steps", "project",
}  # fmt: skip


def load_settings(*kinds: type, arguments: Sequence[str] | None = None) -> tuple[Any, ...]:
    """
    Reads `run.yaml --setting value ...`. Training in bf16 becomes training in float32 on a CPU that is several times
    slower in bf16.

    Args:
        kinds (`type`):
            Dataclasses whose fields are the settings.
        arguments (`Sequence[str]`, *optional*):
            Command line arguments. Defaults to those of the process.

    Returns:
        `tuple`: One instance of each dataclass.

    Raises:
        TrainingError: If the file is missing or is not a mapping, or a setting or folder does not exist.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = HfArgumentParser(kinds)
    if arguments and arguments[0].endswith((".yaml", ".yml")):
        values = _read_yaml(Path(arguments.pop(0)))
        known = {field.name for kind in kinds for field in dataclasses.fields(kind)}
        unknown = sorted(values.keys() - known)
        if unknown:
            raise TrainingError(f"the run file has unknown settings: {', '.join(unknown)}.")
        for action in parser._actions:
            action.required = action.required and action.dest not in values
        parser.set_defaults(**values)
    settings = parser.parse_args_into_dataclasses(arguments)
    if any(map(_is_slow, settings)):
        logger.warning("This CPU has no instructions for bf16, so the run computes in float32.")
        settings = parser.parse_args_into_dataclasses([*arguments, "--bf16", "false"])
    for name in REPO_SETTINGS:
        for part in settings:
            _check_repo(name, getattr(part, name, None))
    return settings


def load_function(reference: str) -> Callable:
    """
    Loads a function given in a setting. Its file may import other files in the same folder.

    Args:
        reference (`str`):
            `folder/file.py:function`.

    Returns:
        `Callable`: The function.

    Raises:
        TrainingError: If the file or function does not exist, or another module has the name of the file.
    """
    path, _, name = reference.partition(":")
    if not Path(path).is_file():
        raise TrainingError(f"a function must be given as `file.py:function` of an existing file, got {reference!r}.")
    sys.path.insert(0, str(Path(path).parent))
    module = importlib.import_module(Path(path).stem)
    imported = getattr(module, "__file__", None)
    if imported is None or not Path(imported).samefile(path):
        raise TrainingError(
            f"{path} cannot be imported, because {imported or 'Python itself'} has the same name. Rename it."
        )
    if not hasattr(module, name):
        raise TrainingError(f"{path} has no function {name!r}.")
    return getattr(module, name)


def find_checkpoint(training_args: TrainingArguments, settings: Sequence[Any]) -> str | None:
    """
    Finds the checkpoint to resume from, and saves the run's settings next to its checkpoints.

    Args:
        training_args (`TrainingArguments`):
            The run's training arguments.
        settings (`Sequence`):
            The run's other dataclasses.

    Returns:
        `str` or `None`: The last checkpoint in `output_dir`, or `None` if there is none.

    Raises:
        TrainingError: If the run was started with settings that lead to different weights, such as another global
            batch size, or `resume_from_checkpoint` is set.
    """
    if training_args.resume_from_checkpoint:
        raise TrainingError(
            "resume_from_checkpoint is not supported: a run resumes from the last checkpoint in its output_dir."
        )
    output = Path(training_args.output_dir)
    current = _describe(training_args, settings)
    checkpoint = last_checkpoint(output)
    run = output / RUN_NAME
    if checkpoint is None or not run.exists():
        if PartialState().is_main_process:
            write_record(run, current)
        return checkpoint
    started = _without_free(read_record(run))
    changed = sorted(name for name in current.keys() | started.keys() if current.get(name) != started.get(name))
    if changed:
        listed = ", ".join(f"{name} ({started.get(name)} -> {current.get(name)})" for name in changed)
        raise TrainingError(
            f"{output} contains a run with other settings: {listed}. Restore them to resume it, or choose another "
            "output_dir to start over. If the number of processes changes, per_device_train_batch_size and "
            "gradient_accumulation_steps must keep the global batch size."
        )
    return checkpoint


def _is_slow(settings: Any) -> bool:
    return isinstance(settings, TrainingArguments) and settings.bf16 and is_slow(torch.bfloat16, settings.device)


def _describe(training_args: TrainingArguments, settings: Sequence[Any]) -> dict:
    fields = {}
    for part in (training_args, *settings):
        fields |= dataclasses.asdict(part) if part is not training_args else part.to_dict()
    fields = _without_free(fields)
    fields["global_batch_size"] = (
        training_args.per_device_train_batch_size
        * training_args.gradient_accumulation_steps
        * max(training_args.world_size, 1)
    )
    return json.loads(json.dumps(fields, default=str))


def _without_free(fields: dict) -> dict:
    return {name: value for name, value in fields.items() if name not in FREE_TO_CHANGE}


def _check_repo(name: str, source: Any) -> None:
    """Rejects paths of missing folders, which would otherwise be looked up on the Hub."""
    if not isinstance(source, str) or Path(source).is_dir():
        return
    beside_others = len(Path(source).parts) > 1 and Path(source).parent.is_dir()
    if beside_others or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source):
        raise TrainingError(f"there is no folder {source}, which {name} is set to.")


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        raise TrainingError(f"there is no run file {path}.")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise TrainingError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise TrainingError(f"{path} must contain settings as `name: value`.")
    return values

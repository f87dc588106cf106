# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Plans of conversions: how to create each tensor of the new checkpoint from the original."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from ..lavit.untrusted_files import shorten
from .errors import ConversionError
from .layout import FileLayout, Rule


# Maximum number of names that an error lists before counting the rest, and their maximum length.
LISTED_NAMES = 10
LISTED_LENGTH = 120

# Maximum number of torch operations to build a model, per tensor, with some margin. LaVIT-7B takes four per tensor.
OPERATIONS_PER_TENSOR = 40
LEAST_OPERATIONS = 10_000

# A tensor that is created when its shard is written, so that only one shard is in memory.
LazyTensor = partial


@dataclass
class PlannedModel:
    """
    A model of the new checkpoint.

    Args:
        model (`nn.Module`):
            The model, on the meta device.
        plan (`dict[str, LazyTensor]`):
            How to create each of its tensors.
        weights_name (`str`):
            Name of the weight file in its library.

    Raises:
        ConversionError: If the plan doesn't match the model's tensors.
    """

    model: nn.Module
    plan: dict[str, LazyTensor]
    weights_name: str

    def __post_init__(self):
        self.specs = {name: make().to("meta") for name, make in self.plan.items()}
        check_complete(self.specs, saved_state_dict(self.model))


@contextmanager
def building_model(num_tensors: int) -> Iterator[None]:
    """
    Builds models on the meta device, with a limit on their size, because even a tiny config can define any number of
    layers.

    Args:
        num_tensors (`int`):
            Number of tensors available for the model.

    Raises:
        ConversionError: If the model needs far more.
    """
    with torch.device("meta"), _OperationLimit(LEAST_OPERATIONS + OPERATIONS_PER_TENSOR * num_tensors):
        yield


class _OperationLimit(TorchDispatchMode):
    def __init__(self, num_operations: int):
        super().__init__()
        self.remaining = num_operations

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.remaining -= 1
        if self.remaining < 0:
            raise ConversionError("a config.json describes a much larger model than the tensors next to it.")
        return function(*args, **(kwargs or {}))


def saved_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns a model's tensors by their names in a repo."""
    state_dict = model.state_dict(keep_vars=True)
    return revert_weight_conversion(model, state_dict) if isinstance(model, PreTrainedModel) else state_dict


def plan_file(layout: FileLayout, tensors: Mapping[str, torch.Tensor]) -> dict[str, LazyTensor]:
    """
    Maps every tensor of an original file.

    Args:
        layout (`FileLayout`):
            The file's rules.
        tensors (`Mapping[str, torch.Tensor]`):
            The file's tensors by their original names. Meta tensors are sufficient.

    Returns:
        `dict[str, LazyTensor]`: A function without arguments for each new name.

    Raises:
        ConversionError: If a tensor is neither mapped nor dropped on purpose.
    """
    plan: dict[str, LazyTensor] = {}
    companions = set()
    unknown = []
    for name in tensors:
        if layout.is_dropped(name):
            continue
        rule, match = _find_rule(layout, name)
        if rule is None:
            unknown.append(name)
            continue
        targets = [match.expand(target) for target in rule.targets]
        if rule.companion is not None:
            companion = match.expand(rule.companion)
            if companion not in tensors:
                raise ConversionError(f"{layout.path} has {name} but not {companion}: the file is incomplete.")
            companions.add(companion)
            plan[targets[0]] = LazyTensor(_with_zeros_between, tensors[name], tensors[companion])
        else:
            for part, target in enumerate(targets):
                plan[target] = LazyTensor(_part, tensors[name], part, len(targets))
    if unknown := [name for name in unknown if name not in companions]:
        raise ConversionError(
            f"{layout.path} has tensors that belong to no known LaVIT release: {list_names(unknown)}."
        )
    return plan


def check_complete(specs: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """
    Compares the planned tensors with those of the new model. Meta tensors are sufficient.

    Raises:
        ConversionError: If tensors are missing or unused, shapes differ, or weights aren't floating-point numbers.
    """
    missing = [name for name in expected if name not in specs]
    left_over = [name for name in specs if name not in expected]
    if missing or left_over:
        raise ConversionError(
            f"the tensors do not match the model. Missing: {list_names(missing)}. Unused: {list_names(left_over)}."
        )
    wrong = [name for name, tensor in expected.items() if specs[name].shape != tensor.shape]
    if wrong:
        raise ConversionError(
            f"the shapes of these tensors do not fit the rest of the checkpoint: {list_names(wrong)}."
        )
    numbers = [name for name, tensor in expected.items() if tensor.is_floating_point()]
    if wrong := [name for name in numbers if not specs[name].is_floating_point()]:
        raise ConversionError(f"these tensors must hold floating-point numbers but do not: {list_names(wrong)}.")


def list_names(names: list[str]) -> str:
    """Formats names as `a, b, c and 4 more`."""
    if not names:
        return "none"
    more = len(names) - LISTED_NAMES
    listed = ", ".join(shorten(name, LISTED_LENGTH) for name in names[:LISTED_NAMES])
    return f"{listed} and {more} more" if more > 0 else listed


def _find_rule(layout: FileLayout, name: str) -> tuple[Rule | None, re.Match | None]:
    for rule in layout.rules:
        if match := re.fullmatch(rule.pattern, name):
            return rule, match
    return None, None


def _part(tensor: torch.Tensor, part: int, parts: int) -> torch.Tensor:
    return tensor if parts == 1 else tensor.chunk(parts)[part]


def _with_zeros_between(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    return torch.cat([first, torch.zeros_like(first), last])

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the plugin needs of lmms-eval 0.7, where that is not installed. `make test-lmms-eval` tests with lmms-eval."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any


@dataclass
class Instance:
    """A request: `arguments` are those of a method of the model."""

    request_type: str
    arguments: tuple
    idx: int
    metadata: dict

    @property
    def args(self) -> tuple:
        return self.arguments

    @property
    def task_name(self) -> str:
        return self.metadata["task"]


@dataclass
class GenerationResult:
    text: Any


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str


class lmms:
    """The base class of models."""

    def __init__(self):
        self._rank, self._world_size = 0, 1
        self.task_dict = {}

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def world_size(self) -> int:
        return self._world_size


class Collator:
    """Sorts, groups by settings, cuts into batches, and undoes the order."""

    def __init__(self, requests: list, sort_fn, grouping: bool = False):
        self.requests = requests
        self.order = sorted(range(len(requests)), key=lambda index: sort_fn(requests[index]))
        self.groups = {}
        for index in self.order:
            self.groups.setdefault(repr(requests[index][1]) if grouping else None, []).append(index)

    def get_batched(self, n: int):
        for group in self.groups.values():
            for start in range(0, len(group), n):
                yield [self.requests[index] for index in group[start : start + n]]

    def get_original(self, results: list) -> list:
        order = [index for group in self.groups.values() for index in group]
        return [result for _, result in sorted(zip(order, results), key=lambda pair: pair[0])]


def stand_in() -> dict[str, ModuleType]:
    """The modules by their names, for `sys.modules`."""
    contents = {
        "lmms_eval": {},
        "lmms_eval.api": {},
        "lmms_eval.api.instance": {"Instance": Instance, "GenerationResult": GenerationResult},
        "lmms_eval.api.model": {"lmms": lmms},
        "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": ModelManifest},
        "lmms_eval.utils": {"Collator": Collator},
    }
    modules = {name: ModuleType(name) for name in contents}
    for name, module in modules.items():
        vars(module).update(contents[name])
    return modules

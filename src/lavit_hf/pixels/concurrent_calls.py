# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Concurrent calls of one pipeline: no thread sees another's steps, settings or casts."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .offloading import is_offloaded


# Keyed by scheduler rather than by pipeline, because pipelines may share a scheduler.
_calls: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

# For each upcast module, the number of calls that need it and the dtype to restore.
_upcasts: WeakKeyDictionary[torch.nn.Module, tuple[int, torch.dtype]] = WeakKeyDictionary()
_upcast_lock = threading.Lock()


def runs_apart(method: Callable) -> Callable:
    """
    Makes a pipeline method run on a copy of the pipeline if another thread is using the pipeline.

    The copy has the same models and its own scheduler, so no call waits. If no other call is running, the method runs
    on the pipeline itself, whose scheduler and settings then reflect the call. Calls of a pipeline with
    `enable_model_cpu_offload` wait for each other, because each moves the models.

    Args:
        method (`Callable`):
            A method that stores per-call state in the pipeline or its scheduler.

    Returns:
        `Callable`: the method.
    """

    @wraps(method)
    def run(self, *args, **kwargs):
        lock = _calls.setdefault(self.scheduler, threading.RLock())  # reentrant for the stages of one call
        if not lock.acquire(blocking=is_offloaded(self)):
            return run(_copy_for_one_call(self), *args, **kwargs)
        try:
            return method(self, *args, **kwargs)
        finally:
            lock.release()

    return run


@contextmanager
def upcast(module: torch.nn.Module) -> Iterator[None]:
    """
    Context manager in which a module computes in fp32. Among concurrent threads, the first casts the module and the
    last casts it back. They only wait for each other's casts.

    Args:
        module (`torch.nn.Module`):
            A model with a `dtype`.
    """
    with _upcast_lock:
        count, dtype = _upcasts.get(module, (0, module.dtype))
        if not count:
            _cast(module, torch.float32)
        _upcasts[module] = (count + 1, dtype)
    try:
        yield
    finally:
        with _upcast_lock:
            count, dtype = _upcasts.pop(module)
            if count > 1:
                _upcasts[module] = (count - 1, dtype)
            else:
                _cast(module, dtype)


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> None:
    if module.dtype != dtype:
        torch.nn.Module.to(module, dtype)  # bypasses diffusers' `to`, which would warn about the intended cast


def _copy_for_one_call(pipeline):
    """Copies the pipeline with the same components, but with its own scheduler and settings."""
    twin = copy.copy(pipeline)
    # The shallow copy is atomic, whatever another thread does to the scheduler. The copy sets its own steps.
    vars(twin)["scheduler"] = copy.deepcopy(copy.copy(pipeline.scheduler))
    return twin

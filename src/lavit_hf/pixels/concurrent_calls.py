# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Calls of one pipeline from several threads: none sees another's steps, settings or casts."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch


# By scheduler rather than by pipeline, as pipelines may share one.
_calls: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

# Modules that were cast: how many calls need them so, and what they are cast back to.
_upcasts: WeakKeyDictionary[torch.nn.Module, tuple[int, torch.dtype]] = WeakKeyDictionary()
_upcast_lock = threading.Lock()


def runs_apart(method: Callable) -> Callable:
    """
    Makes a method of a pipeline run on a copy of it where the pipeline is at work in another thread.

    The copy has the same models and a scheduler of its own. Nobody waits. A call that is alone runs on the pipeline
    itself, whose scheduler and settings show afterwards what it did.

    Args:
        method (`Callable`):
            A method that keeps in the pipeline or its scheduler what is of one call.

    Returns:
        `Callable`: the method.
    """

    @wraps(method)
    def run(self, *args, **kwargs):
        lock = _calls.setdefault(self.scheduler, threading.RLock())  # may be had again by the stages of one call
        if not lock.acquire(blocking=False):
            return run(_copy_for_one_call(self), *args, **kwargs)
        try:
            return method(self, *args, **kwargs)
        finally:
            lock.release()

    return run


@contextmanager
def upcast(module: torch.nn.Module) -> Iterator[None]:
    """
    Inside, a module calculates in fp32. The first of several threads that need it so casts it, and the last casts it
    back; they wait for each other's casts and for nothing else.

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
        torch.nn.Module.to(module, dtype)  # torch's own: diffusers' would warn of a cast that is meant


def _copy_for_one_call(pipeline):
    """The same components, but a scheduler and settings that no other call sees."""
    twin = copy.copy(pipeline)
    # A shallow copy is made in one step, whatever another thread does to the scheduler; its own steps are set anew.
    vars(twin)["scheduler"] = copy.deepcopy(copy.copy(pipeline.scheduler))
    return twin

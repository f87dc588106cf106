# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Models that diffusers and accelerate keep away from the device until they are used."""

from typing import Any, TypeVar

import torch


Module = TypeVar("Module", bound=torch.nn.Module)


def is_offloaded(pipeline: Any) -> bool:
    """Whether `enable_model_cpu_offload` moves the models of a pipeline during its calls."""
    return bool(getattr(pipeline, "_all_hooks", ()))


def awake(module: Module) -> Module:
    """Returns the module with its weights loaded, which offloading only does for `forward`."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(module)
    return module

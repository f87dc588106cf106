# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Describes the weights of a folder that only contains configurations."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from torch import nn
from transformers.utils import CONFIG_NAME

import lavit_hf

from ..conversion.pixel_decoder import empty_model
from ..conversion.plan import saved_state_dict
from ..lavit.untrusted_files import read_json
from .repo_files import TensorHeader


def describe_weights(repo: Path) -> Iterator[tuple[str, list[TensorHeader]]]:
    """
    Creates every model with a configuration in a folder or its direct subfolders, on the meta device.

    Args:
        repo (`Path`):
            The folder.

    Yields:
        For each model, the name of its subfolder (`""` for the folder itself) and its tensors.
    """
    described = set()
    for path in sorted(repo.glob(CONFIG_NAME)) + sorted(repo.glob(f"*/{CONFIG_NAME}")):
        model_class = _find_class(read_json(path))
        # The language model's configuration may be in both the folder and a subfolder.
        if model_class is not None and model_class not in described:
            described.add(model_class)
            folder = "" if path.parent == repo else path.parent.name
            yield folder, _headers(empty_model(path.parent, model_class))


def _headers(model: nn.Module) -> list[TensorHeader]:
    named = {}
    for name, tensor in saved_state_dict(model).items():
        named.setdefault(id(tensor), TensorHeader(name, tuple(tensor.shape)))  # tied weights count once
    return list(named.values())


def _find_class(config: dict[str, Any]) -> type[nn.Module] | None:
    """Returns the class that a configuration of diffusers or transformers names."""
    name = config.get("_class_name") or next(iter(config.get("architectures") or ()), "")
    if name == StableDiffusionSafetyChecker.__name__:  # not in diffusers' namespace
        return StableDiffusionSafetyChecker
    found = getattr(lavit_hf, name, None) or getattr(diffusers, name, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The tensors that a folder of configurations without weights describes."""

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
    Builds every model that has a config at the top or in a folder there, on the meta device.

    Args:
        repo (`Path`):
            Where the configs are.

    Yields:
        For each model the name of its folder, `""` for the top, and its tensors.
    """
    described = set()
    for path in sorted(repo.glob(CONFIG_NAME)) + sorted(repo.glob(f"*/{CONFIG_NAME}")):
        model_class = _find_class(read_json(path))
        # The language model's config may stand at the top and in its folder.
        if model_class is not None and model_class not in described:
            described.add(model_class)
            folder = "" if path.parent == repo else path.parent.name
            yield folder, _headers(empty_model(path.parent, model_class))


def _headers(model: nn.Module) -> list[TensorHeader]:
    named = {}
    for name, tensor in saved_state_dict(model).items():
        named.setdefault(id(tensor), TensorHeader(name, tuple(tensor.shape)))  # tied ones once
    return list(named.values())


def _find_class(config: dict[str, Any]) -> type[nn.Module] | None:
    """The class that a config names, as diffusers or as transformers does."""
    name = config.get("_class_name") or next(iter(config.get("architectures") or ()), "")
    if name == StableDiffusionSafetyChecker.__name__:  # not in the library's own namespace
        return StableDiffusionSafetyChecker
    found = getattr(lavit_hf, name, None) or getattr(diffusers, name, None)
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None

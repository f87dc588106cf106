# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""PEFT adapters: keeps them out of the frozen visual tokenizer, and explains how to add them with an older PEFT."""

import sys

from torch import nn
from transformers.utils import logging


logger = logging.get_logger(__name__)

FROZEN_PART = "visual_tokenizer"
FROZEN_PATTERN = rf".*{FROZEN_PART}.*"


def take_out_frozen_adapters(model: nn.Module) -> None:
    """
    Removes adapters from the visual tokenizer, where they would never be trained. For example,
    `target_modules="all-linear"` adds some. Checkpoints saved afterwards contain none there, and exclude them in their
    configuration.

    Args:
        model (`nn.Module`):
            A model with PEFT adapters. Other models aren't changed.
    """
    tuners = sys.modules.get("peft.tuners.tuners_utils")  # without PEFT there are no adapters
    configs = getattr(model, "peft_config", None)
    if tuners is None or not configs:
        return
    layers = {
        name: module
        for name, module in model.named_modules()
        if FROZEN_PART in name.split(".") and isinstance(module, tuners.BaseTunerLayer)
    }
    if not layers:
        return
    for name, layer in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    for config in configs.values():
        config.exclude_modules = _exclude(config.exclude_modules, list(layers))
    logger.warning(
        f"the adapters of {len(layers)} layers were removed from the visual tokenizer, which is frozen. To leave "
        f'them out from the start, pass exclude_modules=r"{FROZEN_PATTERN}".'
    )


def _exclude(excluded: str | list[str] | set[str] | None, names: list[str]) -> str | set[str]:
    """Adds the layers of the visual tokenizer to the excluded modules of a configuration."""
    if not excluded:
        return FROZEN_PATTERN
    return f"(?:{excluded})|{FROZEN_PATTERN}" if isinstance(excluded, str) else {*excluded, *names}


class ExplainsAdapters:
    """Explains what to do if transformers needs a newer version of PEFT, which may not be released yet."""

    def add_adapter(self, *args, **kwargs) -> None:
        _check_peft()
        super().add_adapter(*args, **kwargs)

    def load_adapter(self, *args, **kwargs):
        _check_peft()
        return super().load_adapter(*args, **kwargs)


def _check_peft() -> None:
    from transformers.integrations.peft import MIN_PEFT_VERSION
    from transformers.utils.peft_utils import check_peft_version

    try:
        check_peft_version(min_version=MIN_PEFT_VERSION)
    except ValueError as error:
        raise ValueError(
            f"transformers needs PEFT {MIN_PEFT_VERSION} or newer to add or load adapters itself. With an older "
            "version, `peft.get_peft_model(model, config)` adds one, and `peft.PeftModel.from_pretrained(model, "
            "folder)` loads one."
        ) from error


__all__ = ["ExplainsAdapters", "take_out_frozen_adapters"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Finds the repo of a model without importing torch."""

from pathlib import Path

from huggingface_hub.constants import CONFIG_NAME

from ..bundled import bundled_checkpoint
from ..lavit.untrusted_files import CheckpointError, read_json
from .adapters import find_base, read_adapter_config
from .failures import Failure
from .model_kinds import ADAPTER_CONFIG_NAME, find_model_config, is_adapter_folder, is_bundled


MODEL_TYPE = "lavit"  # same as in the configuration, which takes seconds to import


def find_repo(model: str | None, adapted_by: str | None = None) -> str:
    """
    Finds a model before anything large is read or downloaded.

    Args:
        model (`str`, *optional*):
            Path or Hub id of a model or an adapter, or the name of the bundled checkpoint, which is the default.
        adapted_by (`str`, *optional*):
            The adapter whose base model this is, which must not be an adapter itself.

    Returns:
        `str`: path or Hub id for `from_pretrained`. For an adapter, that of its base model.

    Raises:
        Failure: If the model does not exist, the Hub cannot be reached, or the base model of an adapter is an adapter.
        CheckpointError: If the configuration of the model is damaged.
    """
    if is_bundled(model):
        return bundled_checkpoint()
    if not model.strip():  # to `Path`, the current folder
        raise Failure("the name of the model is empty. Pass a folder or a Hub id.")
    if not Path(model).exists():
        config_file = find_model_config(model)
        if config_file is None:
            return _find_repo_of_adapter(model, adapted_by)
        _check_is_lavit(model, config_file)
        return model
    _finish_interrupted_save(model)
    if is_adapter_folder(model):
        return _find_repo_of_adapter(model, adapted_by)
    if not Path(model, CONFIG_NAME).is_file():
        raise Failure(
            f"{model} is not a model ({CONFIG_NAME} is missing). Run `lavit convert` to convert an original "
            "checkpoint."
        )
    _check_is_lavit(model, Path(model, CONFIG_NAME))
    return model


def _finish_interrupted_save(model: str) -> None:
    from ..lavit.atomic_files import SAVE_FOLDER

    if Path(model, SAVE_FOLDER).exists():
        from ..lavit.atomic_saving import finish_interrupted_save

        finish_interrupted_save(model)


def _find_repo_of_adapter(adapter: str, adapted_by: str | None) -> str:
    if adapted_by is not None:
        raise Failure(
            f"{adapted_by} is an adapter for {adapter}, which is an adapter too. Merge that one into its own base "
            "model first."
        )
    config = read_adapter_config(adapter)
    if config is None:
        raise Failure(f"{adapter} on the Hub is not a model ({CONFIG_NAME} is missing).")
    try:
        return find_repo(find_base(adapter, config), adapted_by=adapter)
    except (Failure, CheckpointError) as failure:
        raise Failure(
            f"{adapter} is an adapter for a model that cannot be used: {failure} Its {ADAPTER_CONFIG_NAME} names "
            "that model."
        ) from failure


def _check_is_lavit(model: str, config_file: Path) -> None:
    model_type = read_json(config_file).get("model_type")
    if model_type != MODEL_TYPE:
        raise Failure(f"{model} is not a LaVIT model: its {CONFIG_NAME} has the model_type {model_type!r}.")

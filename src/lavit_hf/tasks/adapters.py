# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Finds PEFT adapters that are passed as models, and applies them to the language model of their base."""

from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError

from ..lavit.untrusted_files import check_weights, read_json
from .failures import Failure
from .hub_files import find_hub_file, why_no_answer
from .model_kinds import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAMES, find_model_config, is_adapter_folder, is_bundled


if TYPE_CHECKING:
    from ..lavit.modeling_lavit import LaVITForCausalLM

BASE_FIELD = "base_model_name_or_path"
PROCESSOR_CONFIG_NAME = "processor_config.json"


def read_adapter_config(model: str | None) -> dict | None:
    """
    Reads PEFT's configuration of an adapter.

    Args:
        model (`str`, *optional*):
            Path or Hub id.

    Returns:
        `dict` or `None`: the configuration, or `None` if `model` is `None` or not an adapter.

    Raises:
        CheckpointError: If the configuration is damaged.
    """
    path = None if is_bundled(model) else _find_adapter_config(model)
    return None if path is None else read_json(path)


def find_base(adapter: str, config: dict) -> str:
    """
    Finds the folder or Hub id of the model that an adapter was trained on.

    Args:
        adapter (`str`):
            Path or Hub id of the adapter.
        config (`dict`):
            Its configuration from [`read_adapter_config`].

    Raises:
        Failure: If the configuration names no base model, or the adapter has no weights.
        CheckpointError: If the weights are damaged.
    """
    if Path(adapter).is_dir():
        check_weights(_find_weights(Path(adapter)))
    base = config.get(BASE_FIELD)
    if not base or not isinstance(base, str):
        raise Failure(
            f"the adapter {adapter} does not name its base model. Set {BASE_FIELD} in its {ADAPTER_CONFIG_NAME}."
        )
    # For the language model of a pipeline's repo, use the repo, which also contains the pixel decoder.
    parent = Path(base).parent
    return str(parent) if Path(base).is_dir() and _is_pipeline_with(parent, Path(base)) else base


def find_processor(repo: str, model: str | None) -> str:
    """Finds the processor: next to the adapter if it has one, otherwise in the repo."""
    if model is None or read_adapter_config(model) is None:
        return repo
    if Path(model).exists():
        return model if Path(model, PROCESSOR_CONFIG_NAME).is_file() else repo
    return repo if _find_file(model, PROCESSOR_CONFIG_NAME) is None else model


def apply_adapter(model: "LaVITForCausalLM", adapter: str, base: str, merge: bool) -> "LaVITForCausalLM":
    """
    Applies an adapter to its base model.

    Args:
        model (`LaVITForCausalLM`):
            The base model, which is modified.
        adapter (`str`):
            Path or Hub id of the adapter.
        base (`str`):
            Name of the base model in messages.
        merge (`bool`):
            Whether to merge the adapter's weights into those of the base model. This would round quantized weights
            again.

    Returns:
        [`LaVITForCausalLM`].

    Raises:
        Failure: If PEFT is not installed, the adapter does not fit the base model, or does not modify its layers.
    """
    try:
        from peft import PeftConfig, get_peft_model
    except ImportError as error:
        raise Failure(f"{adapter} is an adapter, which needs PEFT. Run `pip install peft`.") from error
    folder = _find_folder(adapter)
    try:
        config = PeftConfig.from_pretrained(folder, inference_mode=True)
        if config.is_prompt_learning:
            raise Failure(
                f"{adapter} is of type {config.peft_type.value}, which is not supported. Use an adapter of layers, "
                "such as LoRA."
            )
        adapted = get_peft_model(model, config)
        result = adapted.load_adapter(folder, "default", torch_device=str(model.device))
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise Failure(f"the adapter {adapter} does not fit {base}: {_reason(error)}") from error
    stray = [*result.missing_keys, *result.unexpected_keys]
    if stray:
        raise Failure(
            f"the adapter {adapter} does not fit {base}: {len(stray)} of its weights do not match, such as "
            f"{stray[0]}. Was it trained on another model?"
        )
    return adapted.merge_and_unload() if merge else adapted.get_base_model().eval()


def _find_weights(folder: Path) -> Path:
    file = next((folder / name for name in ADAPTER_WEIGHTS_NAMES if (folder / name).is_file()), None)
    if file is None:
        raise Failure(
            f"{folder} holds an {ADAPTER_CONFIG_NAME}, but no weights: {ADAPTER_WEIGHTS_NAMES[0]} is missing."
        )
    return file


def _is_pipeline_with(folder: Path, language_model: Path) -> bool:
    from ..lavit.checkpoint_index import find_weights_folder  # imports torch

    return find_weights_folder(folder).resolve() == language_model.resolve() != folder.resolve()


def _find_adapter_config(model: str) -> Path | None:
    if Path(model).exists():
        return Path(model, ADAPTER_CONFIG_NAME) if is_adapter_folder(model) else None
    return _find_file(model, ADAPTER_CONFIG_NAME) if find_model_config(model) is None else None


def _find_folder(adapter: str) -> str:
    """Finds the files of an adapter. PEFT would ask the Hub even for those in the cache."""
    if Path(adapter).exists():
        return adapter
    files = (_find_file(adapter, name) for name in ADAPTER_WEIGHTS_NAMES)
    weights = next((file for file in files if file is not None), None)
    if weights is None:
        raise Failure(f"the adapter {adapter} has no weights: {ADAPTER_WEIGHTS_NAMES[0]} is missing.")
    return str(weights.parent)


def _find_file(adapter: str, name: str) -> Path | None:
    """Finds a file of an adapter on the Hub, or returns `None` if it has no such file."""
    try:
        return find_hub_file(adapter, name)
    except LocalEntryNotFoundError as error:
        raise Failure(
            f"the cache does not tell whether {adapter} has a {name}, and {why_no_answer(error)} Or download the "
            f"adapter once with `hf download {adapter}`."
        ) from error


def _reason(error: Exception) -> str:
    """Joins the informative lines of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "mismatch" in line and "shape" in line), lines[0] if lines else repr(error))

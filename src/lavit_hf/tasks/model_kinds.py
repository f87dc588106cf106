# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Tells the bundled checkpoint, adapters and models of the Hub apart, without importing torch."""

from pathlib import Path

from huggingface_hub.constants import CONFIG_NAME

from ..bundled import BUNDLED_CHECKPOINT
from .failures import Failure


ADAPTER_CONFIG_NAME = "adapter_config.json"  # PEFT's
ADAPTER_WEIGHTS_NAMES = ("adapter_model.safetensors", "adapter_model.bin")


def is_bundled(model: str | None) -> bool:
    """Whether a model is the bundled checkpoint: by default, and by its name unless there is a path of that name."""
    return model is None or (model == BUNDLED_CHECKPOINT and not Path(model).exists())


def is_adapter_folder(model: str) -> bool:
    """Whether a folder contains an adapter and no model."""
    return Path(model, ADAPTER_CONFIG_NAME).is_file() and not Path(model, CONFIG_NAME).is_file()


def find_model_config(model: str) -> Path | None:
    """
    Finds the configuration of a Hub model.

    Args:
        model (`str`):
            Hub id.

    Returns:
        `Path` or `None`: the configuration in the cache, or `None` if the repo has none, as that of an adapter.

    Raises:
        Failure: If there is no such repo, or neither the Hub nor the cache can tell.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    from .hub_files import find_hub_file, is_cached, why_no_answer

    try:
        return find_hub_file(model, CONFIG_NAME)
    except HFValidationError as error:
        raise Failure(f"there is no folder {model}, and {model} is not a Hub id such as org/name.") from error
    except GatedRepoError as error:
        raise Failure(
            f"access to {model} is restricted. Request it on the model's page, then run `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise Failure(
            f"there is no model {model}, neither as a folder nor on the Hub. If it is private, run `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if is_cached(model, ADAPTER_CONFIG_NAME):
            return None
        raise Failure(f"there is no folder {model}, it is not in the cache, and {why_no_answer(error)}") from error

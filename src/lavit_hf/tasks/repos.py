# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The repo that a user means, found without waiting for torch."""

import json
from pathlib import Path

from huggingface_hub.constants import CONFIG_NAME

from ..bundled import bundled_checkpoint
from .failures import Failure


MODEL_TYPE = "lavit"  # as the configuration says, which takes seconds to import


def find_repo(model: str | None) -> str:
    """
    Makes sure that there is such a model, before anything large is read or downloaded.

    Args:
        model (`str`, *optional*):
            Path or Hub id; the bundled checkpoint by default.

    Returns:
        `str`: what `from_pretrained` takes.

    Raises:
        Failure: If there is no such model, or the Hub cannot be reached.
    """
    if model is None:
        return bundled_checkpoint()
    if not Path(model).exists():
        _check_is_lavit(model, _download_config(model))
        return model
    if not Path(model, CONFIG_NAME).is_file():
        raise Failure(f"{model} holds no model ({CONFIG_NAME} is missing); `lavit convert` makes one of an original.")
    _check_is_lavit(model, Path(model, CONFIG_NAME))
    return model


def _download_config(model: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return Path(hf_hub_download(model, CONFIG_NAME))
    except HFValidationError as error:
        raise Failure(f"there is no folder {model}, and it is no Hub id, which looks like org/name.") from error
    except GatedRepoError as error:
        raise Failure(
            f"{model} is open to those who asked for it: do so on its page, then `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise Failure(
            f"there is no model {model}, neither as a folder nor on the Hub; for a private one, `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise Failure(
            f"there is no folder {model}, it is not in the cache, and the Hub cannot be reached: check the network."
        ) from error
    except EntryNotFoundError as error:
        raise Failure(f"{model} on the Hub holds no model ({CONFIG_NAME} is missing).") from error


def _check_is_lavit(model: str, config_file: Path) -> None:
    model_type = json.loads(config_file.read_text()).get("model_type")
    if model_type != MODEL_TYPE:
        raise Failure(f"{model} is no LaVIT: its {CONFIG_NAME} says model_type {model_type!r}.")

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Identifies the model and data of a result, so that results are never mixed up."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..tasks.failures import Failure
from ..tasks.model_kinds import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAMES, find_model_config
from .samples import Samples


# Files besides the weights on which a model's answers depend, unlike others, such as results in the same folder.
CONFIGURATION_NAMES = {
    "adapter_config.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model_index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "scheduler_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
}
_LETTERS = 12
_BLOCK = 2**20


def digest_weights(folder: Path) -> str:
    """
    Computes a short digest of the weights in a repo.

    Args:
        folder (`Path`):
            The repo.

    Returns:
        `str`: 12 hexadecimal digits.
    """
    adapters = [folder / name for name in ADAPTER_WEIGHTS_NAMES if (folder / name).is_file()]
    return _digest_files(folder, {*folder.rglob("*.safetensors"), *adapters})


def digest_configuration(folder: Path) -> str:
    """Computes a short digest of a repo's configurations, such as its default generation settings, and tokenizers."""
    files = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return _digest_files(folder, {path for path in files if path.name in CONFIGURATION_NAMES})


def _digest_files(folder: Path, files: set[Path]) -> str:
    sums = hashlib.sha256()
    for path in sorted(files):
        sums.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                sums.update(block)
    return sums.hexdigest()[:_LETTERS]


def identify_weights(repo: str) -> str:
    """
    Returns the digest of a folder's weights, or the commit of a Hub repo whose configuration was just read: that of a
    model, or of an adapter, which has none of a model.
    """
    if Path(repo).is_dir():
        return digest_weights(Path(repo))
    from ..tasks.hub_files import find_hub_file

    path = find_model_config(repo) or find_hub_file(repo, ADAPTER_CONFIG_NAME)
    return path.parent.name[:_LETTERS]


def digest_samples(samples: Samples) -> str:
    """Computes a short digest of samples and their images, which does not depend on the folders of the images."""
    pictures = {sample.picture: None for sample in samples.rows}  # one can have several questions
    pictures = {picture: _digest_picture(samples, picture) for picture in pictures}
    sums = hashlib.sha256()
    for sample in samples.rows:
        told = [sample.id, sample.text, sample.references, sample.kind, pictures[sample.picture]]
        sums.update(json.dumps(told).encode())
    return sums.hexdigest()[:_LETTERS]


def _digest_picture(samples: Samples, picture: str | None) -> str | None:
    """Returns a digest of an image's file, or `None` if there is none. The evaluation skips it then."""
    if picture is None:
        return None
    try:
        return hashlib.sha256(samples.read_bytes(picture)).hexdigest()
    except (OSError, ValueError):
        return None


def check_same(path: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """
    Checks that an existing file has the same settings as the current run.

    Args:
        path (`Path`):
            The file, for the error message.
        found (`Mapping`):
            Content of the file.
        settings (`Mapping`):
            Settings of the current run.

    Raises:
        Failure: If a setting differs. The message names the first difference.
    """
    other = [name for name, value in settings.items() if name not in found or found[name] != value]
    if other:
        raise Failure(
            f"{path} has results of a run that differs in {other[0]}. Delete it, or choose another --output."
        )

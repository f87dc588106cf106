# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Which model and which data a result is of, so that it is never taken for another's."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..tasks.failures import Failure
from .samples import Sample


_LETTERS = 12
_BLOCK = 2**20


def digest_weights(folder: Path) -> str:
    """
    A few letters that other weights in a repo would not have.

    Args:
        folder (`Path`):
            The repo.

    Returns:
        `str`: 12 hexadecimal letters.
    """
    sums = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        sums.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                sums.update(block)
    return sums.hexdigest()[:_LETTERS]


def identify_weights(repo: str) -> str:
    """The digest of a folder's weights, or the commit of a repo on the Hub whose configuration was just looked at."""
    if Path(repo).is_dir():
        return digest_weights(Path(repo))
    from huggingface_hub import hf_hub_download
    from huggingface_hub.constants import CONFIG_NAME

    return Path(hf_hub_download(repo, CONFIG_NAME)).parent.name[:_LETTERS]


def digest_samples(samples: Iterable[Sample]) -> str:
    """A few letters that other samples would not have. Where their images lie does not matter."""
    sums = hashlib.sha256()
    for sample in samples:
        sums.update(json.dumps([sample.id, sample.text, sample.references, sample.kind]).encode())
    return sums.hexdigest()[:_LETTERS]


def check_same(path: Path, found: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """
    Makes sure that a file has figures of what is measured now.

    Args:
        path (`Path`):
            The file, which the message names.
        found (`Mapping`):
            What is in it.
        settings (`Mapping`):
            What it has to be of.

    Raises:
        Failure: Names the first difference.
    """
    other = [name for name, value in settings.items() if name not in found or found[name] != value]
    if other:
        raise Failure(
            f"{path} has results of a run that differs in {other[0]}. Delete it, or choose another --output."
        )

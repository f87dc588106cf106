# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Reads small files and the headers of weights from a local or Hub repo, without the weights themselves."""

from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import (
    hf_hub_download,
    metadata_load,
    parse_local_safetensors_file_metadata,
    parse_safetensors_file_metadata,
    snapshot_download,
    try_to_load_from_cache,
)
from yaml import YAMLError

from ..lavit.atomic_files import is_of_a_run
from ..lavit.untrusted_files import read_json
from .hub_files import list_hub_files


WEIGHTS_ENDING = ".safetensors"
MAX_CARD_BYTES = 2**20


class TensorHeader(NamedTuple):
    """Name, shape and dtype of a tensor. The dtype is as in safetensors, such as `"BF16"`, or `None` if not saved."""

    name: str
    shape: tuple[int, ...]
    dtype: str | None = None


class RepoFiles:
    """
    The files of a local repo.

    Args:
        repo (`str`):
            Path of the repo.
    """

    is_complete = True  # whether all files of the repo are known

    def __init__(self, repo: str):
        self.repo = repo

    def list_weights(self) -> list[str]:
        """Returns the relative paths of the repo's weights, without checkpoints of a run and unfinished saves."""
        folder = Path(self.repo)
        names = (path.relative_to(folder) for path in folder.rglob(f"*{WEIGHTS_ENDING}"))
        return sorted(name.as_posix() for name in names if not is_of_a_run(name))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file. Returns `None` if it does not exist."""
        path = Path(self.repo, name)
        return read_json(path) if path.is_file() else None

    def read_card(self, name: str) -> dict[str, Any]:
        """Reads the metadata of a model card. Returns an empty dict if it does not exist or cannot be read."""
        path = Path(self.repo, name)
        return _read_metadata(path) if path.is_file() else {}

    def find_configs(self) -> Path:
        """Returns a local folder with the repo's configurations."""
        return Path(self.repo)

    def read_headers(self, name: str) -> list[TensorHeader]:
        """Reads the tensor headers of a file of weights."""
        return _headers(parse_local_safetensors_file_metadata(Path(self.repo, name)))


class HubFiles(RepoFiles):
    """
    The files of a Hub repo. Only the first bytes of weights are downloaded.

    Args:
        repo (`str`):
            Hub id of the repo.
    """

    def __init__(self, repo: str):
        super().__init__(repo)
        self.names, self.is_complete = list_hub_files(repo)

    def list_weights(self) -> list[str]:
        return sorted(name for name in self.names if name.endswith(WEIGHTS_ENDING) and not is_of_a_run(name))

    def read_json(self, name: str) -> dict[str, Any] | None:
        if name not in self.names:
            return None
        return read_json(hf_hub_download(self.repo, name))

    def read_card(self, name: str) -> dict[str, Any]:
        return _read_metadata(Path(hf_hub_download(self.repo, name))) if name in self.names else {}

    def find_configs(self) -> Path:
        return Path(snapshot_download(self.repo, allow_patterns=["*.json"]))

    def read_headers(self, name: str) -> list[TensorHeader]:
        cached = try_to_load_from_cache(self.repo, name)
        if isinstance(cached, str):
            return _headers(parse_local_safetensors_file_metadata(cached))
        return _headers(parse_safetensors_file_metadata(self.repo, name))


def open_repo(repo: str) -> RepoFiles:
    """Returns the files of a folder or Hub id."""
    return RepoFiles(repo) if Path(repo).is_dir() else HubFiles(repo)


def _read_metadata(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_CARD_BYTES:
        return {}
    try:
        return metadata_load(path) or {}
    except (ValueError, YAMLError):  # the card is not needed to run a model
        return {}


def _headers(metadata) -> list[TensorHeader]:
    return [TensorHeader(name, tuple(tensor.shape), tensor.dtype) for name, tensor in metadata.tensors.items()]

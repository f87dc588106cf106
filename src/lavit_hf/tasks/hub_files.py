# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Files of Hub repos, from the Hub or, without a network, from the cache."""

from http import HTTPStatus
from pathlib import Path

from huggingface_hub import (
    get_cached_repo_tree,
    hf_hub_download,
    list_repo_files,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
)
from huggingface_hub.utils import httpx

from .failures import Failure


def find_hub_file(repo: str, name: str) -> Path | None:
    """
    Finds a file that a Hub repo may not have.

    Args:
        repo (`str`):
            Hub id.
        name (`str`):
            Name of the file.

    Returns:
        `Path` or `None`: the file in the cache, or `None` if the repo has no such file.

    Raises:
        LocalEntryNotFoundError: If neither the Hub nor the cache can tell. [`why_no_answer`] tells why.
        Failure: If the address of the Hub is not one.
    """
    try:
        return Path(hf_hub_download(repo, name))
    except RemoteEntryNotFoundError:
        return None
    except LocalEntryNotFoundError:
        if _is_known_to_be_missing(repo, name):
            return None
        raise
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError) as error:
        raise Failure(f"the address of the Hub, {ENDPOINT}, is not valid. Correct or unset HF_ENDPOINT.") from error


def why_no_answer(error: LocalEntryNotFoundError) -> str:
    """Returns why the Hub could not tell whether it has a file, and what to do."""
    answer = error.__cause__
    if not isinstance(answer, HfHubHTTPError):
        return "the Hub cannot be reached. Check the network."
    status = answer.response.status_code
    if status == HTTPStatus.FORBIDDEN:
        return "the Hub denies access (status 403). Run `hf auth login` with a token that may read it."
    return f"the Hub does not answer now (status {status}). Try again later."


def is_cached(repo: str, name: str) -> bool:
    """Whether a file of a Hub repo is in the cache."""
    return isinstance(try_to_load_from_cache(repo, name), str)


def list_hub_files(repo: str) -> tuple[list[str], bool]:
    """
    Returns the files of a Hub repo, and whether these are all. Without a network, they are those that the repo had
    when it was downloaded as a whole, or else those in the cache, and there may be others.
    """
    try:
        return list_repo_files(repo), True
    except (OSError, httpx.TransportError):
        if tree := _cached_tree(repo):
            return tree, True
        if files := _cached_files(repo):
            return files, False
        raise


def _is_known_to_be_missing(repo: str, name: str) -> bool:
    """Whether the repo didn't have the file when it was downloaded."""
    found = try_to_load_from_cache(repo, name)
    was_asked_for = found is not None and not isinstance(found, str)
    tree = _cached_tree(repo)
    return was_asked_for or (bool(tree) and name not in tree)


def _cached_tree(repo: str) -> list[str]:
    """Returns all files that the repo had when it was downloaded as a whole; otherwise none."""
    try:
        return [file.path for file in get_cached_repo_tree(repo)]
    except CachedRepoTreeNotFoundError:
        return []


def _cached_files(repo: str) -> list[str]:
    """Returns the files of the repo that are in the cache."""
    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
    except LocalEntryNotFoundError:
        return []
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Uploads to the Hub: saved files and their model card in a single commit."""

import inspect
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, wraps
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.constants import REPOCARD_NAME

from ..lavit.checkpoint_index import (
    PIPELINE_INDEX_NAME,
    download_published,
    find_outdated_weights,
    find_weights_folder,
)


PUSH_OPTIONS = ("tags", "private", "token", "revision", "create_pr", "commit_message", "commit_description")


def pushes_with_card(make_card: Callable[[Any, str], ModelCard]) -> Callable[[type], type]:
    """
    Returns a class decorator that makes `push_to_hub` and `save_pretrained(push_to_hub=True)` use [`push_saved`]. It
    uploads everything in a single commit, adds LaVIT's model card unless the repo has one, and removes outdated
    weights.

    Args:
        make_card (`Callable`):
            Creates the card of an instance, given the repo's id.

    Returns:
        `Callable`: The decorator, for transformers models and diffusers pipelines.
    """

    def decorate(pushed_class: type) -> type:
        save = pushed_class.save_pretrained
        known = inspect.signature(save).parameters

        def push(self, repo_id: str, folder: Path | None, args: tuple, options: dict[str, Any]) -> CommitInfo:
            push_options = {name: options.pop(name) for name in PUSH_OPTIONS if name in options}
            unknown = [name for name in options if name not in known and name != "include_code"]
            if unknown:
                raise TypeError(f"push_to_hub() got an unexpected keyword argument {unknown[0]!r}")
            return push_saved(
                partial(_save_into, partial(save, self), args, {"include_code": True, **options}),
                partial(make_card, self),
                repo_id,
                folder,
                model_tags=getattr(self, "model_tags", None) or (),
                **push_options,
            )

        @wraps(save)
        def save_pretrained(self, save_directory: str | os.PathLike, *args, push_to_hub: bool = False, **kwargs):
            # transformers merges the shards of several processes.
            if not push_to_hub or kwargs.get("distributed_checkpoint"):
                return save(self, save_directory, *args, push_to_hub=push_to_hub, **kwargs)
            folder = Path(save_directory)
            push(self, kwargs.pop("repo_id", folder.name), folder, args, kwargs)
            return None

        def push_to_hub(self, repo_id: str, **kwargs) -> CommitInfo:
            """
            Saves and uploads to the Hub, with a model card unless the repo has one.

            Args:
                repo_id (`str`):
                    The repo. It is created if it doesn't exist.
                kwargs:
                    `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description` and `tags`, as
                    in every `push_to_hub` of transformers, and arguments of `save_pretrained`.

            Returns:
                `CommitInfo`: The commit.
            """
            return push(self, repo_id, None, (), kwargs)

        pushed_class.save_pretrained, pushed_class.push_to_hub = save_pretrained, push_to_hub
        return pushed_class

    return decorate


def _save_into(save: Callable, args: tuple, options: dict[str, Any], folder: Path) -> None:
    save(folder, *args, **options)


def push_saved(
    save: Callable[[Path], object],
    make_card: Callable[[str], ModelCard],
    repo_id: str,
    folder: Path | None = None,
    tags: str | Sequence[str] | None = None,
    model_tags: Sequence[str] = (),
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
) -> CommitInfo:
    """
    Saves something and uploads the written files, replacing existing weights. The libraries' own `push_to_hub` would
    add their own card.

    Args:
        save (`Callable`):
            Saves to a folder.
        make_card (`Callable`):
            Creates a card from the repo's id. Only used if there is no card on the Hub or in `folder`.
        repo_id (`str`):
            The repo. It is created if it doesn't exist.
        folder (`Path`, *optional*):
            Where to save. Defaults to a temporary folder.
        tags (`str` or `Sequence[str]`, *optional*):
            Tags to add to the card.
        model_tags (`Sequence[str]`, *optional*):
            More tags, which transformers stores with a model.
        private (`bool`, *optional*):
            Whether a new repo is private. Defaults to the organization's setting.
        token (`bool` or `str`, *optional*):
            The token, or whether to use the stored one.
        revision (`str`, *optional*):
            The branch. It is created if it doesn't exist.
        create_pr (`bool`, *optional*, defaults to `False`):
            Whether to open a pull request.
        commit_message, commit_description (`str`, *optional*):
            Message and description of the commit.

    Returns:
        `CommitInfo`: The commit.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not create_pr and not revision.startswith("refs/"):
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        place = Path(place)
        published = api.list_repo_files(repo_id, revision=revision)
        download = partial(download_published, repo_id, token=token, revision=revision)
        card = ModelCard.load(download(REPOCARD_NAME)) if REPOCARD_NAME in published else _own_card(place)
        pipeline_index = download(PIPELINE_INDEX_NAME) if PIPELINE_INDEX_NAME in published else None
        if folder is None and pipeline_index is not None:
            shutil.copy(pipeline_index, place)  # tells a model where the weights are in this repo
        before = _stamps(place)
        save(place)
        if folder is not None and pipeline_index is not None and find_weights_folder(place) == place:
            options = {"private": private, "revision": revision, "create_pr": create_pr, "token": token}
            options |= {"commit_message": commit_message, "commit_description": commit_description}
            return push_saved(save, make_card, repo_id, tags=tags, model_tags=model_tags, **options)
        if card is None:
            card = make_card(repo_id)
            card.save(place / REPOCARD_NAME)
        tags = [tags] if isinstance(tags, str) else tags or ()
        card.data.tags = list(dict.fromkeys([*(card.data.tags or ()), *model_tags, *tags])) or None
        written = [name for name, stamp in _stamps(place).items() if before.get(name) != stamp]
        files = {name: place / name for name in written} | {REPOCARD_NAME: str(card).encode()}
        outdated = find_outdated_weights(published, written)
        return api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, content) for name, content in sorted(files.items())),
                *(CommitOperationDelete(name) for name in outdated),
            ],
            commit_message=commit_message or "Upload LaVIT",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )


def _own_card(folder: Path) -> ModelCard | None:
    path = folder / REPOCARD_NAME
    return ModelCard.load(path) if path.is_file() else None


def _stamps(folder: Path) -> dict[str, int]:
    """Returns the modification time of each file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}

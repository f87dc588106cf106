# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Atomic updates of an existing repo, which are applied completely or not at all, even if the process is killed.

A repo can't be renamed as a whole, because its folder also contains other files, such as `README.md`, `.git` and
checkpoints. Instead, new files are first written to a subfolder, together with a list of changes. Once the list
exists, the changes are applied by the same process or, if it was killed, by the next one that saves or loads the repo
with lavit_hf. Until all changes are applied, the repo has no configuration, so that no other library loads a mixture
of old and new files.
"""

import inspect
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

from .atomic_files import (
    CHECKPOINT_PREFIX,
    LOCK_NAME,
    NEW_FOLDER,
    SAVE_FOLDER,
    UNFINISHED,
    flush,
    is_unfinished,
    locked,
)
from .checkpoint_index import CODE_FOLDER, PIPELINE_INDEX_NAME, find_outdated_weights


# Held while a model is loaded. Meanwhile, libraries change global state, such as the device of new weights, so threads
# that load at the same time could get models without weights, or leave this state changed.
LOADING = threading.RLock()

# Lists the changes of a repo once they are prepared.
CHANGES_NAME = "changes.json"

# Files in a repo that saving may read: text files up to a generous size, and the headers of weights.
TEXT_ENDINGS = (".json", ".jinja", ".md", ".py")
LARGEST_TEXT = 2**24
WEIGHT_ENDINGS = (".safetensors", ".bin")

# Files that loading starts with, in the order in which they are restored.
ENTRIES = ("tokenizer.json", "adapter_config.json", "preprocessor_config.json", "processor_config.json", "config.json")


@contextmanager
def atomic_update(folder: str | os.PathLike) -> Iterator[Path]:
    """
    Yields a temporary folder to save to. Everything that is written or removed there is then applied to `folder`,
    either completely or not at all.

    Initially, the temporary folder contains the files that saving may read: copies of text files, such as
    configurations and indices, and placeholders for weights, which have names and headers but no values. At the end,
    weights that are replaced by new ones are removed, and all other files in `folder` are kept.

    Args:
        folder (`str` or `os.PathLike`):
            The folder. It is created if it doesn't exist. If it is itself unfinished, it is written to directly.
    """
    folder = Path(folder)
    if is_unfinished(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with _prepared(folder) as (new, shown):
        yield new
        _list_changes(folder, shown)
        _make_changes(folder)


def saves_atomically(save: Callable[..., Any]) -> Callable[..., Any]:
    """
    Method decorator that makes `save_pretrained` write with [`atomic_update`]. It doesn't affect processes that don't
    write, nor the state of a training run, which all processes write.
    """
    signature = inspect.signature(save)

    @wraps(save)
    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> Any:
        options = signature.bind(self, save_directory, *args, **kwargs).arguments
        if not _writes(self, save_directory, {**options, **options.get("kwargs", {})}):
            return save(self, save_directory, *args, **kwargs)
        push = {name: kwargs.pop(name) for name in ("push_to_hub", "repo_id") if name in kwargs}
        with atomic_update(save_directory) as folder:
            saved = _in_place(save(self, folder, *args, **kwargs), folder, save_directory)
        if not push.get("push_to_hub"):
            return saved
        # Save again to a temporary folder, because pushing adds files that don't belong in the local repo.
        with _prepared(Path(save_directory)) as (folder, _):
            return save(self, folder, *args, **{"repo_id": Path(save_directory).name, **push, **kwargs})

    return save_pretrained


class LoadsWholeRepos:
    """Makes `from_pretrained` first complete an interrupted save, and load in one thread at a time."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        finish_interrupted_save(pretrained_model_name_or_path)
        with LOADING:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)


def finish_interrupted_save(folder: str | os.PathLike | None) -> None:
    """
    Completes an interrupted save in a repo, or in the repo of which `folder` is a component. Does nothing if there is
    none, or if a save to the folder above was left there by anyone but the owner of `folder` or root.

    Args:
        folder (`str` or `os.PathLike`, *optional*):
            The argument of `from_pretrained`, which may not be a folder.

    Raises:
        OSError: If the changes can't be applied.
    """
    if not isinstance(folder, (str, os.PathLike)):
        return
    for repo in (Path(folder), Path(folder).parent):
        save_folder = repo / SAVE_FOLDER
        if not (save_folder / CHANGES_NAME).is_file():
            continue
        if repo != Path(folder) and not _is_by_owner(save_folder, Path(folder)):
            continue
        try:
            with locked(save_folder / LOCK_NAME):
                _make_changes(repo)
                shutil.rmtree(save_folder, ignore_errors=True)
        except OSError as error:
            raise OSError(
                f"the last save to {repo} was interrupted and cannot be completed ({error}). Load it once where the "
                "folder is writable, or save there again."
            ) from error


def _is_by_owner(save_folder: Path, folder: Path) -> bool:
    """Whether root or the owner of a folder created a save folder. Others could change the folder by it."""
    return _owner(save_folder) in (_owner(folder if folder.exists() else folder.parent), 0)


def _owner(path: Path) -> int:
    return path.lstat().st_uid


def name_of(folder: Path) -> Path:
    """Returns the repo that a temporary folder stands for, for messages to users."""
    return folder.parent.parent if folder.parent.name == SAVE_FOLDER else folder


def _in_place(saved: Any, folder: Path, save_directory: str | os.PathLike) -> Any:
    """Replaces the temporary folder by the final one in the file names that a library returns."""
    if not isinstance(saved, list | tuple):
        return saved
    places = (os.path.relpath(name, folder) for name in saved)
    return type(saved)(os.path.join(save_directory, place) for place in places)


def _writes(self: Any, save_directory: str | os.PathLike, options: dict[str, Any]) -> bool:
    if options.get("distributed_checkpoint") or os.path.isfile(save_directory):  # the library refuses files
        return False
    is_main_process = options.get("is_main_process", True)
    should_save = getattr(self, "should_save_on_this_rank", None)
    return is_main_process if should_save is None else should_save(is_main_process)


@contextmanager
def _prepared(folder: Path) -> Iterator[tuple[Path, dict[str, os.stat_result]]]:
    """Yields the folder to save to, and the stats of its initial files."""
    save_folder = folder / SAVE_FOLDER
    is_new = not folder.exists()
    with locked(save_folder / LOCK_NAME):
        try:
            _make_changes(folder)
            shutil.rmtree(save_folder / NEW_FOLDER, ignore_errors=True)
            (save_folder / NEW_FOLDER).mkdir()
            yield save_folder / NEW_FOLDER, _show(folder, save_folder / NEW_FOLDER)
        finally:
            if not (save_folder / CHANGES_NAME).exists():  # keep changes that couldn't be applied
                shutil.rmtree(save_folder, ignore_errors=True)
            if is_new:
                with suppress(OSError):  # not empty on success
                    folder.rmdir()


def _show(folder: Path, new: Path) -> dict[str, os.stat_result]:
    """Adds the files that saving may read to a folder. They get an old timestamp, so that changes can be detected."""
    for path in _texts_and_weights(folder):
        shown = new / path.relative_to(folder)
        shown.parent.mkdir(exist_ok=True)
        if path.suffix in WEIGHT_ENDINGS:
            _stand_in(path, shown)
        else:
            shutil.copyfile(path, shown)
        os.utime(shown, (0, 0))
    return _look(new)


def _texts_and_weights(folder: Path) -> Iterator[Path]:
    for path in (path for place in _places_of_a_repo(folder) for path in place.iterdir() if path.is_file()):
        is_text = path.suffix in TEXT_ENDINGS and path.stat().st_size <= LARGEST_TEXT
        if is_text or path.suffix in WEIGHT_ENDINGS:
            yield path


def _places_of_a_repo(folder: Path) -> Iterator[Path]:
    """Yields the folder, and subfolders with a component or the source, but not the checkpoints of a run."""
    yield folder
    for path in folder.iterdir():
        is_own = path.is_dir() and not path.name.startswith((".", CHECKPOINT_PREFIX))
        if is_own and (path.name == CODE_FOLDER or any(path.glob("*config.json"))):
            yield path


def _stand_in(weights: Path, path: Path) -> None:
    """Creates a sparse file with the size of `weights`, including the header for safetensors."""
    with weights.open("rb") as source, path.open("wb") as target:
        if weights.suffix == ".safetensors":
            length = source.read(8)
            target.write(length + source.read(min(int.from_bytes(length, "little"), LARGEST_TEXT)))
        target.truncate(weights.stat().st_size)


def _look(folder: Path) -> dict[str, os.stat_result]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat() for path in files}


def _identity(stat: os.stat_result) -> tuple[int, ...]:
    """What differs once a file is written again. Not every file system can store the old timestamp itself."""
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _list_changes(folder: Path, shown: dict[str, os.stat_result]) -> None:
    """Lists the files that were written and those to remove. From then on, the save will be completed."""
    save_folder = folder / SAVE_FOLDER
    found = _look(save_folder / NEW_FOLDER)
    written = [name for name, stat in found.items() if name not in shown or _identity(stat) != _identity(shown[name])]
    kept = [name for name in shown if name not in written]
    removed = {*(shown.keys() - found.keys()), *find_outdated_weights(kept, written)}
    if any((folder / name).exists() for name in [*written, *removed]):
        # Files that replace others must survive a power failure.
        for name in written:
            flush(save_folder / NEW_FOLDER / name)
    unfinished = save_folder / f".{CHANGES_NAME}{UNFINISHED}"
    unfinished.write_text(json.dumps({"written": sorted(written, key=_place), "removed": sorted(removed)}))
    flush(unfinished)
    unfinished.rename(save_folder / CHANGES_NAME)
    flush(save_folder)


def _place(name: str) -> tuple:
    """Sort key for moving files: those that refer to others later, the top after subfolders, the index last."""
    path = Path(name)
    if name == PIPELINE_INDEX_NAME:
        return (3,)
    if path.name in ENTRIES:
        return 2, -len(path.parts), ENTRIES.index(path.name), name
    return int(path.suffix == ".json"), name


def _make_changes(folder: Path) -> None:
    """Applies the listed changes that aren't applied yet, if any."""
    save_folder = folder / SAVE_FOLDER
    if not (save_folder / CHANGES_NAME).is_file():
        return
    written, removed = _read_changes(folder)
    written = [name for name in written if (save_folder / NEW_FOLDER / name).is_file()]
    for name in sorted({*written, *removed}, key=_place, reverse=True):
        if name in removed or _place(name)[0]:
            (folder / name).unlink(missing_ok=True)
    for place in {(folder / name).parent for name in removed} - {folder}:
        with suppress(OSError):  # usually not empty
            place.rmdir()
    for name in written:
        (folder / name).parent.mkdir(exist_ok=True)
        os.replace(save_folder / NEW_FOLDER / name, folder / name)
    (save_folder / CHANGES_NAME).unlink()


def _read_changes(folder: Path) -> tuple[list[str], list[str]]:
    """Reads the listed changes and checks that all are within the folder, because the list may be untrusted."""
    path = folder / SAVE_FOLDER / CHANGES_NAME
    try:
        changes = json.loads(path.read_text())
        written, removed = list(changes["written"]), list(changes["removed"])
        places = [root / name for root in (folder, path.parent / NEW_FOLDER) for name in {*written, *removed}]
        if all(place.parent.resolve().is_relative_to(folder.resolve()) for place in places):
            return written, removed
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{path} is damaged") from error
    raise OSError(f"{path} names files that are not in {folder}")


__all__ = ["atomic_update", "finish_interrupted_save", "saves_atomically"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Where the weights of a full LaVIT lie in its repo, and the indices that say so.

They lie at the top or, in the repo of a whole pipeline, in the language model's folder, with indices at the top that
point there. A second index names the files that hold the visual tokenizer, so that it loads alone without the rest.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError
from safetensors import safe_open
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .untrusted_files import check_inside, check_written_name, read_json, read_weight_map


# Files no larger than this let the visual tokenizer be downloaded with little of the language model.
MAX_SHARD_SIZE = "1GB"

VISUAL_TOKENIZER_PREFIX = "visual_tokenizer."
VISUAL_TOKENIZER_INDEX_NAME = "visual_tokenizer.safetensors.index.json"

# The model type of a full LaVIT, of which the others are parts.
WHOLE_MODEL_TYPE = "lavit"

# What diffusers writes at the top of a pipeline's repo: the library and the class of each component, by its folder.
PIPELINE_INDEX_NAME = "model_index.json"
LANGUAGE_MODEL_FOLDER = "language_model"

# Where the source lies in a repo that has it.
CODE_FOLDER = "code"

# Weights of transformers, in one file or several: `model.safetensors`, `model.fp16-00001-of-00002.safetensors`.
WEIGHTS_PATTERN = re.compile(r"model(?:\.(?P<variant>.+?))?(?:-\d+-of-\d+)?\.safetensors")


def find_weights_folder(folder: Path) -> Path:
    """The language model's folder where `folder` is the repo of a pipeline that has one, else `folder` itself."""
    return folder / LANGUAGE_MODEL_FOLDER if _names_language_model(folder / PIPELINE_INDEX_NAME) else folder


def _names_language_model(pipeline_index: Path) -> bool:
    component = read_json(pipeline_index).get(LANGUAGE_MODEL_FOLDER) if pipeline_index.is_file() else None
    return bool(isinstance(component, list) and component and component[-1])


def finish_saving(folder: Path, variant: str | None = None) -> None:
    """
    Makes the repo of a full LaVIT whole again, whose weights have just been saved.

    Args:
        folder (`Path`):
            The top of the repo.
        variant (`str`, *optional*):
            The variant of the weights, as `save_pretrained` was told.
    """
    weights_folder = find_weights_folder(folder)
    remove_outdated_weights(weights_folder, variant)
    write_visual_tokenizer_index(weights_folder, variant)
    if weights_folder != folder:
        point_to_weights(folder, weights_folder)


def read_model_type(folder: Path) -> str | None:
    """The model type of the configuration in a folder; `None` where there is none."""
    return _model_type_in(folder / CONFIG_NAME)


def _model_type_in(path: Path) -> str | None:
    return read_json(path).get("model_type") if path.is_file() else None


def check_not_a_part(model_type: str, present_type: str | None, repo: str | os.PathLike) -> None:
    """Raises a `ValueError` where a part of a LaVIT would take the place of the whole that is in `repo`."""
    if present_type == WHOLE_MODEL_TYPE and model_type != WHOLE_MODEL_TYPE:
        raise ValueError(
            f"{repo} holds a full LaVIT model, which a {model_type} would overwrite. Save the whole model there, or "
            "choose another folder."
        )


def fit_to_published(folder: Path, repo_id: str, token: bool | str | None = None, revision: str | None = None) -> None:
    """
    Sees to it that what is about to be pushed does not contradict the rest of its repo on the Hub: a configuration
    goes into the language model's folder too.

    Args:
        folder (`Path`):
            What is to be pushed.
        repo_id (`str`):
            The repo, which is there.
        token, revision (*optional*):
            As in `hf_hub_download`.

    Raises:
        ValueError: If a part of a LaVIT would take the place of a whole one, or weights that of an index.
    """
    model_type = read_model_type(folder)
    if model_type is None:
        return
    published = {name: _download(repo_id, name, token, revision) for name in (CONFIG_NAME, PIPELINE_INDEX_NAME)}
    check_not_a_part(model_type, _model_type_in(published[CONFIG_NAME]), repo_id)
    if not _names_language_model(published[PIPELINE_INDEX_NAME]) or find_weights_folder(folder) != folder:
        return
    if _find_variants(folder):
        raise ValueError(
            f"{repo_id} is the repo of a pipeline, which reads the language model's weights from "
            f"{LANGUAGE_MODEL_FOLDER}/. Download it, save the model to its folder, and push that with `hf upload`."
        )
    (folder / LANGUAGE_MODEL_FOLDER).mkdir(exist_ok=True)
    shutil.copy(folder / CONFIG_NAME, folder / LANGUAGE_MODEL_FOLDER)


def _download(repo_id: str, name: str, token: bool | str | None, revision: str | None) -> Path:
    """A file of a repo; a path where nothing is if it has none."""
    try:
        return Path(hf_hub_download(repo_id, name, token=token, revision=revision))
    except (EntryNotFoundError, RevisionNotFoundError):
        return Path(os.devnull) / name


def find_outdated_weights(present: Iterable[str], written: Iterable[str]) -> list[str]:
    """
    Which weights are written anew, in more files or fewer, or in another format: one file would be loaded before
    several.

    Args:
        present (`Iterable[str]`):
            Files that are there, by their paths in a repo.
        written (`Iterable[str]`):
            Files that are saved.

    Returns:
        `list[str]`: those of `present` that are not written but whose place is taken.
    """
    written = set(written)
    sets = {_weights_of(name) for name in written} - {None}
    return sorted(name for name in present if name not in written and _weights_of(name) in sets)


def _weights_of(name: str) -> str | None:
    """What a file, a shard or an index of weights is a part of; `None` for another file."""
    whole = re.sub(r"-\d+-of-\d+(?=\.)", "", name)
    whole = re.sub(r"\.(safetensors|bin)\.index(\..+)?\.json$", r"\2.\1", whole)
    stem, _, ending = whole.rpartition(".")
    return stem if ending in ("safetensors", "bin") else None


def remove_outdated_weights(folder: Path, variant: str | None = None) -> None:
    """
    Removes what a save in one file leaves of an earlier one in several, and the other way round: transformers would go
    on to read it.
    """
    single, own_index = (add_variant(name, variant) for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME))
    for index in _find_indices(folder):
        # transformers has removed the shards that it did not write anew, those of variants too.
        shards = set(read_weight_map(index).values())
        if not all("/" not in shard and (folder / shard).is_file() for shard in shards):
            index.unlink()
        elif index.name == own_index:
            (folder / single).unlink(missing_ok=True)


def point_to_weights(folder: Path, weights_folder: Path) -> None:
    """
    Lets the top of a pipeline's repo stand for its language model: the configurations, and for every variant indices
    that point to the weights. What else stands there of weights would be read in their place, and is removed.

    Args:
        folder (`Path`):
            The top of the repo.
        weights_folder (`Path`):
            The language model's folder.
    """
    for name in (CONFIG_NAME, GENERATION_CONFIG_NAME):
        shutil.copy(weights_folder / name, folder)
    remove_weights(folder)
    for variant in _find_variants(weights_folder):
        weight_map = _read_weight_map(weights_folder, variant)
        if weight_map is not None:
            moved = {name: f"{weights_folder.name}/{file}" for name, file in sorted(weight_map.items())}
            write_index(folder / add_variant(SAFE_WEIGHTS_INDEX_NAME, variant), moved)
            write_visual_tokenizer_index(folder, variant)


def remove_weights(folder: Path) -> None:
    """Removes a full LaVIT's weights of all variants and their indices, but nothing out of the folders within."""
    for path in (*folder.glob("model*.safetensors"), *_find_indices(folder)):
        path.unlink()


def write_visual_tokenizer_index(folder: Path, variant: str | None = None) -> None:
    """
    Writes beside the weights of a full LaVIT which of its files hold the visual tokenizer. Does nothing where there
    are no weights, as beside a mere adapter.

    Args:
        folder (`Path`):
            Where the weights are, or an index of them.
        variant (`str`, *optional*):
            The variant of the weights.
    """
    weight_map = _read_weight_map(folder, variant)
    if weight_map is None:
        return
    own = {name: file for name, file in sorted(weight_map.items()) if name.startswith(VISUAL_TOKENIZER_PREFIX)}
    write_index(folder / visual_tokenizer_index_name(variant), own)


def write_index(path: Path, weight_map: dict[str, str]) -> None:
    """Writes the index of a sharded checkpoint: which file holds which tensor."""
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2) + "\n")


def locate_shards(sharded_metadata: dict[str, Any], checkpoint_files: list[str], source: str) -> None:
    """
    Names in an index, as transformers has read it, each file by its whole path. transformers takes all files for
    neighbors where it leaves weights on the disk, and an index may name them by folder.

    Args:
        sharded_metadata (`dict[str, Any]`):
            The index, which is changed.
        checkpoint_files (`list[str]`):
            The files that it names.
        source (`str`):
            The folder or Hub id of the checkpoint.

    Raises:
        CheckpointError: If a file is outside the checkpoint.
    """
    files = [Path(file).absolute() for file in checkpoint_files]
    places = {}
    for name in set(sharded_metadata["weight_map"].values()):
        check_written_name(name, f"the index of the weights of {source}")
        places[name] = next(file for file in files if file.as_posix().endswith(f"/{name}"))
        check_inside(Path(places[name].as_posix().removesuffix(name)), name, source)
    sharded_metadata["weight_map"] = {
        tensor: str(places[name]) for tensor, name in sharded_metadata["weight_map"].items()
    }


def add_variant(name: str, variant: str | None) -> str:
    """The name of a file of weights, or of their index, for a variant."""
    stem, dot, ending = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}{dot}{ending}"


def visual_tokenizer_index_name(variant: str | None = None) -> str:
    """The name of a variant's index, with the ending that transformers wants where a configuration names an index."""
    prefix = VISUAL_TOKENIZER_PREFIX if variant is None else f"{VISUAL_TOKENIZER_PREFIX}{variant}."
    return prefix + VISUAL_TOKENIZER_INDEX_NAME.removeprefix(VISUAL_TOKENIZER_PREFIX)


def find_visual_tokenizer_indices(folder: Path) -> list[Path]:
    """The indices of the visual tokenizer's weights, first that of no variant."""
    return sorted(folder.glob(VISUAL_TOKENIZER_INDEX_NAME.replace(".", "*.", 1)), key=lambda path: len(path.name))


def _find_indices(folder: Path) -> list[Path]:
    """The indices of a full LaVIT's weights and of its visual tokenizer's, of all variants."""
    return [*folder.glob(f"{Path(SAFE_WEIGHTS_INDEX_NAME).stem}*.json"), *find_visual_tokenizer_indices(folder)]


def _find_variants(folder: Path) -> set[str | None]:
    """Variants of which there are weights; `None` is that without a name."""
    matches = (WEIGHTS_PATTERN.fullmatch(path.name) for path in folder.glob("model*.safetensors"))
    return {match["variant"] for match in matches if match is not None}


def _read_weight_map(folder: Path, variant: str | None) -> dict[str, str] | None:
    index = folder / add_variant(SAFE_WEIGHTS_INDEX_NAME, variant)
    if index.is_file():
        weight_map = read_weight_map(index)
        # An index of shards that a later save in one file has replaced may be left behind.
        if all((folder / shard).is_file() for shard in set(weight_map.values())):
            return weight_map
    file = add_variant(SAFE_WEIGHTS_NAME, variant)
    if not (folder / file).is_file():
        return None
    with safe_open(folder / file, framework="pt") as weights:
        return dict.fromkeys(weights.keys(), file)

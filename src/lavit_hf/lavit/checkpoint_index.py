# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Locations of a full LaVIT's weights in its repo, and the indices that refer to them.

The weights are in the top folder or, in the repo of a full pipeline, in the language model's folder, with indices in
the top folder that point there. A second index lists the files that contain the visual tokenizer, so that it can be
loaded without the rest.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, list_repo_files
from huggingface_hub.errors import RevisionNotFoundError
from safetensors import safe_open
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from .untrusted_files import check_inside, check_written_name, read_json, read_weight_map


# With files no larger than this, the visual tokenizer can be downloaded with little of the language model.
MAX_SHARD_SIZE = "1GB"

VISUAL_TOKENIZER_PREFIX = "visual_tokenizer."
VISUAL_TOKENIZER_INDEX_NAME = "visual_tokenizer.safetensors.index.json"

# The model type of a full LaVIT. The others are parts of it.
WHOLE_MODEL_TYPE = "lavit"

# Written by diffusers to the top folder of a pipeline's repo: the library and class of each component, by folder.
PIPELINE_INDEX_NAME = "model_index.json"
LANGUAGE_MODEL_FOLDER = "language_model"

# Folder of the source code in repos that contain it.
CODE_FOLDER = "code"

# Weight files of transformers, single or sharded: `model.safetensors`, `model.fp16-00001-of-00002.safetensors`.
WEIGHTS_PATTERN = re.compile(r"model(?:\.(?P<variant>.+?))?(?:-\d+-of-\d+)?\.safetensors")


def find_weights_folder(folder: Path) -> Path:
    """Returns the language model's folder if `folder` is the repo of a pipeline with one, otherwise `folder`."""
    return folder / LANGUAGE_MODEL_FOLDER if _names_language_model(folder / PIPELINE_INDEX_NAME) else folder


def _names_language_model(pipeline_index: Path) -> bool:
    component = read_json(pipeline_index).get(LANGUAGE_MODEL_FOLDER) if pipeline_index.is_file() else None
    return bool(isinstance(component, list) and component and component[-1])


def finish_saving(folder: Path, variant: str | None = None) -> None:
    """
    Completes the repo of a full LaVIT after its weights have been saved.

    Args:
        folder (`Path`):
            The top folder of the repo.
        variant (`str`, *optional*):
            The variant of the weights, as passed to `save_pretrained`.
    """
    weights_folder = find_weights_folder(folder)
    remove_outdated_weights(weights_folder, variant)
    write_visual_tokenizer_index(weights_folder, variant)
    if weights_folder != folder:
        point_to_weights(folder, weights_folder)


def read_model_type(folder: Path) -> str | None:
    """Reads the model type of the configuration in a folder; `None` if there is none."""
    path = folder / CONFIG_NAME
    return read_json(path).get("model_type") if path.is_file() else None


def check_not_a_part(model_type: str, present_type: str | None, repo: str | os.PathLike) -> None:
    """Raises a `ValueError` if a part of a LaVIT would overwrite the full model in `repo`."""
    if present_type == WHOLE_MODEL_TYPE and model_type != WHOLE_MODEL_TYPE:
        raise ValueError(
            f"{repo} holds a full LaVIT model, which a {model_type} would overwrite. Save the whole model there, or "
            "choose another folder."
        )


def fit_to_published(folder: Path, repo_id: str, token: bool | str | None = None, revision: str | None = None) -> None:
    """
    Makes sure that an upload is consistent with the rest of its repo on the Hub: in a pipeline's repo, a configuration
    is also copied to the language model's folder.

    Args:
        folder (`Path`):
            The folder to push.
        repo_id (`str`):
            The repo, which must exist.
        token, revision (*optional*):
            As in `hf_hub_download`.

    Raises:
        ValueError: If a part of a LaVIT would replace a full one, or weights would replace an index.
    """
    model_type = read_model_type(folder)
    if model_type is None:
        return
    published = _list_published(repo_id, token, revision)
    download = partial(download_published, repo_id, token=token, revision=revision)
    if CONFIG_NAME in published:
        check_not_a_part(model_type, read_json(download(CONFIG_NAME)).get("model_type"), repo_id)
    holds_pipeline = PIPELINE_INDEX_NAME in published and _names_language_model(download(PIPELINE_INDEX_NAME))
    if not holds_pipeline or find_weights_folder(folder) != folder:
        return
    if _find_variants(folder):
        raise ValueError(
            f"{repo_id} is the repo of a pipeline, which reads the language model's weights from "
            f"{LANGUAGE_MODEL_FOLDER}/. Download it, save the model to its folder, and push that with `hf upload`."
        )
    (folder / LANGUAGE_MODEL_FOLDER).mkdir(exist_ok=True)
    shutil.copy(folder / CONFIG_NAME, folder / LANGUAGE_MODEL_FOLDER)


def _list_published(repo_id: str, token: bool | str | None, revision: str | None) -> list[str]:
    """Returns the files of a repo on the Hub; none if the upload will create the branch."""
    try:
        return list_repo_files(repo_id, token=token, revision=revision)
    except RevisionNotFoundError:
        return []


def download_published(repo_id: str, name: str, token: bool | str | None = None, revision: str | None = None) -> Path:
    """
    Downloads a file that an upload depends on. Never falls back to the cache, which may be old.

    Args:
        repo_id (`str`):
            The repo.
        name (`str`):
            The file, which must exist.
        token, revision (*optional*):
            As in `hf_hub_download`.

    Returns:
        `Path`: The file in the cache.

    Raises:
        OSError: If the Hub doesn't send it.
    """
    try:
        return Path(hf_hub_download(repo_id, name, token=token, revision=revision, force_download=True))
    except ValueError as error:
        raise OSError(
            f"{name} of {repo_id} could not be downloaded, so nothing was uploaded: {error.__cause__ or error}. Try "
            "again later."
        ) from error


def find_outdated_weights(present: Iterable[str], written: Iterable[str]) -> list[str]:
    """
    Finds weights that are replaced by a different number of files or another format. They would otherwise be loaded,
    as single files take precedence over shards.

    Args:
        present (`Iterable[str]`):
            Paths of existing files in a repo.
        written (`Iterable[str]`):
            Paths of saved files.

    Returns:
        `list[str]`: The files in `present` that aren't written but are replaced.
    """
    written = set(written)
    sets = {_weights_of(name) for name in written} - {None}
    return sorted(name for name in present if name not in written and _weights_of(name) in sets)


def _weights_of(name: str) -> str | None:
    """Returns the set of weights that a file, shard or index belongs to; `None` for other files."""
    whole = re.sub(r"-\d+-of-\d+(?=\.)", "", name)
    whole = re.sub(r"\.(safetensors|bin)\.index(\..+)?\.json$", r"\2.\1", whole)
    stem, _, ending = whole.rpartition(".")
    return stem if ending in ("safetensors", "bin") else None


def remove_outdated_weights(folder: Path, variant: str | None = None) -> None:
    """
    Removes outdated shards or single files if weights were saved in the other form. transformers would otherwise read
    them.
    """
    single, own_index = (add_variant(name, variant) for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME))
    for index in _find_indices(folder):
        # transformers has removed all shards that it didn't overwrite, including those of variants.
        shards = set(read_weight_map(index).values())
        if not all("/" not in shard and (folder / shard).is_file() for shard in shards):
            index.unlink()
        elif index.name == own_index:
            (folder / single).unlink(missing_ok=True)


def point_to_weights(folder: Path, weights_folder: Path) -> None:
    """
    Makes the language model of a pipeline loadable from the top folder of its repo: adds its configurations, and
    indices that point to its weights, for every variant. Other weights in the top folder would be read instead, so
    they are removed.

    Args:
        folder (`Path`):
            The top folder of the repo.
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
    """Removes a full LaVIT's weights and indices, for all variants, but nothing in subfolders."""
    for path in (*folder.glob("model*.safetensors"), *_find_indices(folder)):
        path.unlink()


def write_visual_tokenizer_index(folder: Path, variant: str | None = None) -> None:
    """
    Writes an index of the files that contain the visual tokenizer, next to the weights of a full LaVIT. Does nothing
    if there are no weights, for example if only an adapter was saved.

    Args:
        folder (`Path`):
            The folder of the weights or of their index.
        variant (`str`, *optional*):
            The variant of the weights.
    """
    weight_map = _read_weight_map(folder, variant)
    if weight_map is None:
        return
    own = {name: file for name, file in sorted(weight_map.items()) if name.startswith(VISUAL_TOKENIZER_PREFIX)}
    write_index(folder / visual_tokenizer_index_name(variant), own)


def write_index(path: Path, weight_map: dict[str, str]) -> None:
    """Writes the index of a sharded checkpoint, which maps tensors to files."""
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2) + "\n")


def locate_shards(sharded_metadata: dict[str, Any], checkpoint_files: list[str], source: str) -> None:
    """
    Replaces the file names in an index that transformers has read by absolute paths. When transformers offloads
    weights to disk, it assumes that all files are in the same folder, but an index can refer to subfolders.

    Args:
        sharded_metadata (`dict[str, Any]`):
            The index, which is modified.
        checkpoint_files (`list[str]`):
            The files in the index.
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
    """Returns the name of a weight file or index for a variant."""
    stem, dot, ending = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}{dot}{ending}"


def visual_tokenizer_index_name(variant: str | None = None) -> str:
    """Returns the name of a variant's index, with the suffix that transformers requires in a configuration."""
    prefix = VISUAL_TOKENIZER_PREFIX if variant is None else f"{VISUAL_TOKENIZER_PREFIX}{variant}."
    return prefix + VISUAL_TOKENIZER_INDEX_NAME.removeprefix(VISUAL_TOKENIZER_PREFIX)


def find_visual_tokenizer_indices(folder: Path) -> list[Path]:
    """Returns the indices of the visual tokenizer's weights, starting with that of the default variant."""
    return sorted(folder.glob(VISUAL_TOKENIZER_INDEX_NAME.replace(".", "*.", 1)), key=lambda path: len(path.name))


def _find_indices(folder: Path) -> list[Path]:
    """Returns the indices of the weights of a full LaVIT and its visual tokenizer, for all variants."""
    return [*folder.glob(f"{Path(SAFE_WEIGHTS_INDEX_NAME).stem}*.json"), *find_visual_tokenizer_indices(folder)]


def _find_variants(folder: Path) -> set[str | None]:
    """Returns the variants that have weights; `None` is the default one."""
    matches = (WEIGHTS_PATTERN.fullmatch(path.name) for path in folder.glob("model*.safetensors"))
    return {match["variant"] for match in matches if match is not None}


def _read_weight_map(folder: Path, variant: str | None) -> dict[str, str] | None:
    index = folder / add_variant(SAFE_WEIGHTS_INDEX_NAME, variant)
    if index.is_file():
        weight_map = read_weight_map(index)
        # The index may be a leftover of shards that were later replaced by a single file.
        if all((folder / shard).is_file() for shard in set(weight_map.values())):
            return weight_map
    file = add_variant(SAFE_WEIGHTS_NAME, variant)
    if not (folder / file).is_file():
        return None
    with safe_open(folder / file, framework="pt") as weights:
        return dict.fromkeys(weights.keys(), file)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Downloads the repo of a pipeline, with only the weights that are needed."""

import os
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from diffusers.pipelines.pipeline_loading_utils import variant_compatible_siblings
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from huggingface_hub import get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError
from transformers.utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME

from ..lavit.atomic_files import SAVE_FOLDER, is_of_a_run
from .repo_layout import LANGUAGE_MODEL_FOLDER, find_codebook_file


# The components' weights and the indices of their shards, for any variant.
WEIGHT_PATTERNS = [f"*/{Path(name).stem}[.-]*" for name in (SAFE_WEIGHTS_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)]


def download_pipeline(
    repo_id: str,
    variant: str | None = None,
    spared: Collection[str] = (),
    cache_dir: str | os.PathLike | None = None,
    **kwargs: Any,
) -> str:
    """
    Downloads a repo written by [`~LaVITPipeline.save_pretrained`].

    Args:
        repo_id (`str`):
            A Hub id.
        variant (`str`, *optional*):
            The variant of the weights, such as `"fp16"`. For components without this variant, the default weights are
            downloaded.
        spared (`Collection[str]`, *optional*):
            Components whose weights aren't needed. For the language model, the file with the codebook is still
            downloaded.
        cache_dir (`str` or `os.PathLike`, *optional*):
            As in `snapshot_download`.
        kwargs:
            Other arguments of `snapshot_download`.

    Returns:
        `str`: The local folder.

    Raises:
        ValueError: If no component has the variant.
    """
    # First download everything except weights. This tells where the codebook is, and caches the list of files, which
    # is then also available offline.
    ignored = WEIGHT_PATTERNS + [f"{component}/*.safetensors" for component in spared] + [f"*{SAVE_FOLDER}/*"]
    folder = snapshot_download(repo_id, ignore_patterns=ignored, cache_dir=cache_dir, **kwargs)
    commit = Path(folder).name
    try:
        tree = get_cached_repo_tree(repo_id, revision=commit, cache_dir=cache_dir)
    except CachedRepoTreeNotFoundError:  # offline with the cache of an older client: nothing more to download
        return folder
    weights = choose_weights([file.path for file in tree], variant, spared)
    codebook_file = find_codebook_file(Path(folder))
    if codebook_file is not None and LANGUAGE_MODEL_FOLDER in spared:
        weights.append(codebook_file)
    return snapshot_download(repo_id, allow_patterns=weights, cache_dir=cache_dir, **{**kwargs, "revision": commit})


def choose_weights(files: Collection[str], variant: str | None = None, spared: Collection[str] = ()) -> list[str]:
    """Selects the components' weights from the files of a repo, as diffusers does for a variant."""
    weights = [file for file in files if any(fnmatch(file, pattern) for pattern in WEIGHT_PATTERNS)]
    weights = [file for file in weights if not is_of_a_run(file)]
    usable, _ = variant_compatible_siblings([file for file in weights if file.split("/")[0] not in spared], variant)
    return sorted(usable)

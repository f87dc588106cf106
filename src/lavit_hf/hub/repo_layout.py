# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The repo layout of a full LaVIT, which works with transformers and diffusers and stores every tensor only once.

diffusers expects each component of a pipeline in its own folder, while transformers expects its files in the top
folder. Therefore, the weights are in the components' folders, and the top folder contains the language model's
configs, an index that points to the files in its folder, the processor's files and a `pipeline.py` for
`DiffusionPipeline`.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers.utils import CONFIG_NAME, GENERATION_CONFIG_NAME

from ..lavit.checkpoint_index import (
    LANGUAGE_MODEL_FOLDER,
    VISUAL_TOKENIZER_INDEX_NAME,
    VISUAL_TOKENIZER_PREFIX,
    find_visual_tokenizer_indices,
    point_to_weights,
    remove_weights,
    write_index,
)
from ..lavit.remote_code import CODE_FOLDER
from ..lavit.untrusted_files import read_weight_map


PROCESSOR_FOLDER = "processor"

# Location of the codebook in a repo without a language model.
CODEBOOK_FILE = "codebook.safetensors"
CODEBOOK_KEY = f"{VISUAL_TOKENIZER_PREFIX}quantizer.codebook.weight"

# Former modules of classes, which are named in the `model_index.json` of older repos.
MOVED_MODULES = {
    "lavit_hf.modeling_lavit": "lavit_hf.lavit.modeling_lavit",
    "lavit_hf.processing_lavit": "lavit_hf.lavit.processing_lavit",
    "lavit_hf.modeling_detokenizer": "lavit_hf.pixels.modeling_detokenizer",
    "lavit_hf.patch_autoencoder": "lavit_hf.pixels.small.patch_autoencoder",
}


def write_top_files(folder: Path, codebook: torch.Tensor | None = None) -> None:
    """
    Writes the top-level files of a repo whose components are in their folders.

    Args:
        folder (`Path`):
            The repo.
        codebook (`torch.Tensor` of shape `(codebook_size, codebook_dim)`, *optional*):
            The codebook, for a repo without a language model, which would otherwise contain it.
    """
    shutil.copytree(folder / PROCESSOR_FOLDER, folder, dirs_exist_ok=True)
    if codebook is None:
        (folder / CODEBOOK_FILE).unlink(missing_ok=True)
        point_to_weights(folder, folder / LANGUAGE_MODEL_FOLDER)
        return
    remove_weights(folder)  # of a previous language model, like its configurations below
    for name in (CONFIG_NAME, GENERATION_CONFIG_NAME):
        (folder / name).unlink(missing_ok=True)
    save_file({CODEBOOK_KEY: codebook.contiguous()}, folder / CODEBOOK_FILE, metadata={"format": "pt"})
    write_index(folder / VISUAL_TOKENIZER_INDEX_NAME, {CODEBOOK_KEY: CODEBOOK_FILE})


def find_codebook_file(folder: Path) -> str | None:
    """Returns the file that contains the codebook, relative to `folder`; `None` if there is none."""
    files = (read_weight_map(path).get(CODEBOOK_KEY) for path in find_visual_tokenizer_indices(folder))
    return next((file for file in files if file is not None), None)


def read_codebook(folder: Path) -> torch.Tensor | None:
    """Reads only the codebook `(codebook_size, codebook_dim)` from a repo; `None` if there is none."""
    file = find_codebook_file(folder)
    if file is None or not (folder / file).is_file():
        return None
    with safe_open(folder / file, framework="pt") as weights:
        return weights.get_tensor(CODEBOOK_KEY)


def name_components(index: dict[str, Any] | tuple, modules: Mapping[str, str]) -> dict[str, Any] | tuple:
    """
    Replaces the modules of a LaVIT's components by the current ones.

    Args:
        index (`dict[str, Any]` or `tuple`):
            The contents of a `model_index.json`, as read by diffusers. The repo may contain its own source, be written
            by such source, or be older.
        modules (`Mapping[str, str]`):
            The module of each class.

    Returns:
        The updated index, which [`LaVITPipeline`] can load.
    """
    if isinstance(index, tuple):
        return name_components(index[0], modules), *index[1:]
    named = {name: entry for name, entry in index.items() if name != CODE_FOLDER}
    for name, entry in named.items():
        if isinstance(entry, list) and entry and entry[-1] in modules:
            library, module = MOVED_MODULES.get(entry[0], entry[0]), modules[entry[-1]]
            if library.split(".")[-1] == module.split(".")[-1]:
                named[name] = [module, entry[-1]]
    return named

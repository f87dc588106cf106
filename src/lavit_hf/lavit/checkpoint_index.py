# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""An index of the visual tokenizer's weights in a full LaVIT repo, so that it loads alone without opening the rest."""

import json
from pathlib import Path

from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


# Files no larger than this let the visual tokenizer be downloaded with little of the language model.
MAX_SHARD_SIZE = "1GB"

VISUAL_TOKENIZER_PREFIX = "visual_tokenizer."
VISUAL_TOKENIZER_INDEX_NAME = "visual_tokenizer.safetensors.index.json"


def write_visual_tokenizer_index(folder: Path, variant: str | None = None) -> None:
    """
    Writes beside the weights of a full LaVIT which of its files hold the visual tokenizer. Does nothing where there
    are no weights, as beside a mere adapter.

    Args:
        folder (`Path`):
            Where the weights are.
        variant (`str`, *optional*):
            The variant of the weights, as `save_pretrained` was told. It counts where there are no others.
    """
    weight_map = _weight_map(folder, None) or _weight_map(folder, variant)
    if weight_map is None:
        return
    own = {name: file for name, file in sorted(weight_map.items()) if name.startswith(VISUAL_TOKENIZER_PREFIX)}
    write_index(folder / VISUAL_TOKENIZER_INDEX_NAME, own)


def write_index(path: Path, weight_map: dict[str, str]) -> None:
    """Writes the index of a sharded checkpoint: which file holds which tensor."""
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}, indent=2) + "\n")


def _weight_map(folder: Path, variant: str | None) -> dict[str, str] | None:
    file = _add_variant(SAFE_WEIGHTS_NAME, variant)
    index = folder / _add_variant(SAFE_WEIGHTS_INDEX_NAME, variant)
    if index.is_file():
        weight_map = json.loads(index.read_text())["weight_map"]
        # An index of shards that a later save in one file has replaced is left behind.
        if all((folder / shard).is_file() for shard in set(weight_map.values())):
            return weight_map
    if not (folder / file).is_file():
        return None
    with safe_open(folder / file, framework="pt") as weights:
        return dict.fromkeys(weights.keys(), file)


def _add_variant(name: str, variant: str | None) -> str:
    stem, dot, ending = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}{dot}{ending}"

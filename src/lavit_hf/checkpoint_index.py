# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""An index of the visual tokenizer's weights in a full LaVIT repo, so that it loads alone without opening the rest."""

import json
from pathlib import Path

from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


VISUAL_TOKENIZER_PREFIX = "visual_tokenizer."
VISUAL_TOKENIZER_INDEX_NAME = "visual_tokenizer.safetensors.index.json"


def write_visual_tokenizer_index(folder: Path, variant: str | None = None) -> None:
    """
    Writes beside the weights of a full LaVIT which of its files hold the visual tokenizer.

    Args:
        folder (`Path`):
            Where the weights are.
        variant (`str`, *optional*):
            The variant of the weights, as `save_pretrained` was told.
    """
    names = _weight_map(folder, variant).items()
    weight_map = {name: file for name, file in names if name.startswith(VISUAL_TOKENIZER_PREFIX)}
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / VISUAL_TOKENIZER_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")


def _weight_map(folder: Path, variant: str | None) -> dict[str, str]:
    index_path = folder / _add_variant(SAFE_WEIGHTS_INDEX_NAME, variant)
    if index_path.is_file():
        return json.loads(index_path.read_text())["weight_map"]
    file = _add_variant(SAFE_WEIGHTS_NAME, variant)
    with safe_open(folder / file, framework="pt") as weights:
        return dict.fromkeys(weights.keys(), file)


def _add_variant(name: str, variant: str | None) -> str:
    stem, dot, ending = name.rpartition(".")
    return name if variant is None else f"{stem}.{variant}{dot}{ending}"

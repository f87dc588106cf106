# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""An index of the visual tokenizer's weights in a full LaVIT repo, so that it loads alone without opening the rest."""

import json
from pathlib import Path

from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


VISUAL_TOKENIZER_PREFIX = "visual_tokenizer."
VISUAL_TOKENIZER_INDEX_NAME = "visual_tokenizer.safetensors.index.json"


def write_visual_tokenizer_index(folder: Path) -> None:
    """Writes beside the weights of a full LaVIT in `folder` which of its files hold the visual tokenizer."""
    weight_map = {name: file for name, file in _weight_map(folder).items() if name.startswith(VISUAL_TOKENIZER_PREFIX)}
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / VISUAL_TOKENIZER_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")


def _weight_map(folder: Path) -> dict[str, str]:
    index_path = folder / SAFE_WEIGHTS_INDEX_NAME
    if index_path.is_file():
        return json.loads(index_path.read_text())["weight_map"]
    with safe_open(folder / SAFE_WEIGHTS_NAME, framework="pt") as weights:
        return dict.fromkeys(weights.keys(), SAFE_WEIGHTS_NAME)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Names that differ between memory and repos: the projections of all modules that process images.

In memory, none of them has a name that is common in language models, so that LoRA on `q_proj` or `fc1` only affects
the language model. Repos keep the previous names.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, apply_renamings


# Names in a repo and in memory.
LAYER_NAMES = {
    "q_proj": "query_projection",
    "k_proj": "key_projection",
    "v_proj": "value_projection",
    "out_proj": "output_projection",
    "fc1": "expansion",
    "fc2": "contraction",
}
SELECTOR_NAMES = {"in_proj": "input_projection"}
QUANTIZER_NAMES = {"in_proj": "input_projection", "out_proj": "output_projection"}


def rename_layers(parent: str) -> list[WeightRenaming]:
    """Renames the projections of attention and MLP in all [`LaVITLayer`]s below `parent`, a regular expression."""
    # The group matches the layer's number and its part. Saving applies the same rules in reverse.
    return [
        WeightRenaming(
            source_patterns=rf"{parent}layers\.(\d+\.\w+)\.{old}", target_patterns=rf"{parent}layers.\1.{new}"
        )
        for old, new in LAYER_NAMES.items()
    ]


def rename_parts(parent: str, names: dict[str, str]) -> list[WeightRenaming]:
    """Renames the projections directly below `parent`."""
    return [WeightRenaming(rf"{parent}\.{old}", rf"{parent}.{new}") for old, new in names.items()]


class NamesOfRepos:
    """
    Makes a model's `load_state_dict` accept the names in a repo in addition to its own. `Trainer` uses it to resume
    from a checkpoint that `save_pretrained` wrote, and would otherwise ignore weights with unknown names.
    """

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], *args: Any, **kwargs: Any):
        rules = [rule for rule in get_model_conversion_mapping(self) if isinstance(rule, WeightRenaming)]
        own = self.state_dict(keep_vars=True).keys()
        names = {name: name if name in own else apply_renamings(name, rules) for name in state_dict}
        return super().load_state_dict({names[name]: state_dict[name] for name in state_dict}, *args, **kwargs)


__all__ = ["QUANTIZER_NAMES", "SELECTOR_NAMES", "NamesOfRepos", "rename_layers", "rename_parts"]

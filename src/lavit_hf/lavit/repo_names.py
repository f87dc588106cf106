# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What is called otherwise in memory than in a repo: the projections of everything that images pass through.

In memory none of them has a name that language models give their own layers, so that LoRA on `q_proj` or `fc1` lands
in the language model alone. Repos keep the names that these had before.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, apply_renamings


# In a repo, and in memory.
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
    """The projections of attention and MLP in all [`LaVITLayer`]s below `parent`, a regular expression."""
    # The group is the layer's number and its part; saving takes the same rules the other way round.
    return [
        WeightRenaming(
            source_patterns=rf"{parent}layers\.(\d+\.\w+)\.{old}", target_patterns=rf"{parent}layers.\1.{new}"
        )
        for old, new in LAYER_NAMES.items()
    ]


def rename_parts(parent: str, names: dict[str, str]) -> list[WeightRenaming]:
    """The projections that stand right below `parent`."""
    return [WeightRenaming(rf"{parent}\.{old}", rf"{parent}.{new}") for old, new in names.items()]


class NamesOfRepos:
    """
    Lets a model's `load_state_dict` take the names of a repo as well as its own: `Trainer` goes on from a checkpoint
    that `save_pretrained` wrote in this way, and would pass over the weights that it does not know.
    """

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], *args: Any, **kwargs: Any):
        rules = [rule for rule in get_model_conversion_mapping(self) if isinstance(rule, WeightRenaming)]
        own = self.state_dict(keep_vars=True).keys()
        names = {name: name if name in own else apply_renamings(name, rules) for name in state_dict}
        return super().load_state_dict({names[name]: state_dict[name] for name in state_dict}, *args, **kwargs)


__all__ = ["QUANTIZER_NAMES", "SELECTOR_NAMES", "NamesOfRepos", "rename_layers", "rename_parts"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What LaVIT's models have in common."""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_utils import LoadStateDictConfig

from .checkpoint_index import locate_shards


class LaVITBaseModel(PreTrainedModel):
    """A model that loads out of the repo of a full LaVIT, or of a pipeline, from the top."""

    @staticmethod
    def _load_pretrained_model(
        model: PreTrainedModel,
        state_dict: dict[str, torch.Tensor] | None,
        checkpoint_files: list[str] | None,
        load_config: LoadStateDictConfig,
        *args,
        **kwargs,
    ) -> tuple[Any, Any]:
        if load_config.sharded_metadata is not None:
            locate_shards(load_config.sharded_metadata, checkpoint_files)
        return PreTrainedModel._load_pretrained_model(
            model, state_dict, checkpoint_files, load_config, *args, **kwargs
        )


__all__ = ["LaVITBaseModel"]

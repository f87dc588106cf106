# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Base class of LaVIT's models."""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_utils import LoadStateDictConfig

from .adapters_lavit import ExplainsAdapters
from .atomic_saving import LoadsWholeRepos, saves_atomically
from .checkpoint_index import locate_shards
from .repo_names import NamesOfRepos
from .untrusted_files import naming_checkpoint


class LaVITBaseModel(LoadsWholeRepos, NamesOfRepos, ExplainsAdapters, PreTrainedModel):
    """A model that can be loaded from the top folder of the repo of a full LaVIT or a pipeline."""

    save_pretrained = saves_atomically(PreTrainedModel.save_pretrained)

    def _apply(self, fn, recurse=True):
        # `model.to(torch.bfloat16)` moves computed buffers that are never saved, such as rotary frequencies, but keeps
        # their dtype, because loading in bf16 doesn't round them either.
        computed = [
            (module, name, module._buffers[name])
            for module in self.modules()
            for name in module._non_persistent_buffers_set
            if module._buffers[name] is not None and module._buffers[name].is_floating_point()
        ]
        super()._apply(fn, recurse)
        for module, name, buffer in computed:
            moved = module._buffers[name]
            if moved.dtype != buffer.dtype:
                module._buffers[name] = buffer.to(moved.device)
        return self

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        with naming_checkpoint(pretrained_model_name_or_path, cls.__name__):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

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
            locate_shards(load_config.sharded_metadata, checkpoint_files, load_config.pretrained_model_name_or_path)
        with naming_checkpoint(load_config.pretrained_model_name_or_path, type(model).__name__, checkpoint_files):
            return PreTrainedModel._load_pretrained_model(
                model, state_dict, checkpoint_files, load_config, *args, **kwargs
            )


__all__ = ["LaVITBaseModel"]

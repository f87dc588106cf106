# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Which patches are kept: by another rule for a while, and seen as it happens."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..tasks.loading import selection_settings


@contextmanager
def keeping(model: LaVITForCausalLM, keep_ratio: float | None) -> Iterator[None]:
    """
    Inside, the model keeps a share of the patches; afterwards its own rule decides again.

    Args:
        model (`LaVITForCausalLM`):
            The model, for one caller at a time.
        keep_ratio (`float`, *optional*):
            The share. By default nothing changes.
    """
    config = model.visual_tokenizer.config
    settings = selection_settings(keep_ratio)
    before = {name: getattr(config, name) for name in settings}
    try:
        _set(config, settings)
        yield
    finally:
        _set(config, before)


@contextmanager
def watching(model: LaVITForCausalLM) -> Iterator[list[torch.Tensor]]:
    """
    Inside, collects the masks of the pictures that the model reads, which under sampling cannot be had again.

    Args:
        model (`LaVITForCausalLM`):
            The model.

    Yields:
        `list[torch.BoolTensor]`: a mask of shape `(num_images, num_patches)` for each time that pictures were read.
    """
    selector = model.understanding.selector or model.visual_tokenizer.selector
    masks: list[torch.Tensor] = []
    hook = selector.register_forward_hook(lambda module, inputs, outputs: masks.append(outputs[0] > 0.5))
    try:
        yield masks
    finally:
        hook.remove()


def _set(config, settings: dict) -> None:
    for name, value in settings.items():
        setattr(config, name, value)

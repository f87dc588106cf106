# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What stays as it is when a LaVIT is loaded in 8 or 4 bits."""

import copy

from transformers.utils.quantization_config import QuantizationConfigMixin


# A rounded encoder, selector or merger would keep other patches and give other codes, and the embeddings and the head
# hold the image ids. Patterns over module names, as transformers takes them.
UNQUANTIZED_MODULES = ("visual_tokenizer", "understanding", "language_model.*embed_tokens", "lm_head", "embed_out")

# How the quantisation methods call their list of modules to leave alone.
SKIP_LIST_NAMES = ("llm_int8_skip_modules", "modules_to_not_convert", "skip_modules", "ignore")


def leave_images_unquantized(config: QuantizationConfigMixin | dict) -> QuantizationConfigMixin:
    """
    Adds to a quantisation's list of modules to leave alone those that images pass through, so that their codes do not
    move.

    Args:
        config (`QuantizationConfigMixin` or `dict`):
            As `from_pretrained` takes it; it is not changed.

    Returns:
        `QuantizationConfigMixin`: The same with a longer list, where the method has one.
    """
    if isinstance(config, dict):
        from transformers.quantizers import AutoQuantizationConfig  # imports every quantisation library there is

        config = AutoQuantizationConfig.from_dict(config)
    config = copy.deepcopy(config)
    for name in SKIP_LIST_NAMES:
        if hasattr(config, name):
            setattr(config, name, [*(getattr(config, name) or []), *UNQUANTIZED_MODULES])
    return config

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What stays as it is when a LaVIT is loaded in 8 or 4 bits."""

import copy

from torch import nn
from transformers.utils.quantization_config import QuantizationConfigMixin

from .library_noise import leave_out


# A rounded encoder, selector or merger would keep other patches and give other codes, and the embeddings and the head
# hold the image ids. Patterns over module names, as transformers takes them, of `LaVITForCausalLM` and `LaVITModel`.
UNQUANTIZED_MODULES = (
    r"(model\.)?visual_tokenizer",
    r"(model\.)?understanding",
    r"(model\.)?language_model\.embed_tokens",
    "lm_head",
)

# How the quantization methods call their list of modules to leave alone.
SKIP_LIST_NAMES = ("llm_int8_skip_modules", "modules_to_not_convert", "skip_modules", "ignore")

# bitsandbytes' 4-bit kernel for CPUs with bf16, and how it says that a layer may use it: it takes rows by as many, and
# wants whole blocks in each.
CPU_KERNEL_SWITCH = "support_avx512bf16_for_cpu"
CPU_KERNEL_ROWS, BLOCK_SIZE = 32, 64


def leave_images_unquantized(config: QuantizationConfigMixin | dict) -> QuantizationConfigMixin:
    """
    Adds to a quantization's list of modules to leave alone those that images pass through, so that their codes do not
    move.

    Args:
        config (`QuantizationConfigMixin` or `dict`):
            As `from_pretrained` takes it; it is not changed.

    Returns:
        `QuantizationConfigMixin`: The same with a longer list, where the method has one.
    """
    # bitsandbytes says so in every layer of every forward, and rounds as it is meant to.
    leave_out("bitsandbytes.autograd._functions", "MatMul8bitLt: inputs will be cast from")
    if isinstance(config, dict):
        from transformers.quantizers import AutoQuantizationConfig  # imports every quantization library there is

        config = AutoQuantizationConfig.from_dict(config)
    config = copy.deepcopy(config)
    for name in SKIP_LIST_NAMES:
        if hasattr(config, name):
            setattr(config, name, [*(getattr(config, name) or []), *UNQUANTIZED_MODULES])
    return config


def avoid_unfit_kernels(model: nn.Module) -> None:
    """
    Lets 4-bit layers whose widths one of bitsandbytes' kernels cannot do, and would fail for in the first forward, go
    its general way.

    Args:
        model (`nn.Module`):
            A loaded model, quantized or not.
    """
    for module in model.modules():
        if getattr(module, CPU_KERNEL_SWITCH, False):
            fits = module.out_features % CPU_KERNEL_ROWS == 0 and module.in_features % BLOCK_SIZE == 0
            setattr(module, CPU_KERNEL_SWITCH, fits)

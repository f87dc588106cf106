# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Excludes parts of a LaVIT from quantization to 8 or 4 bits."""

import copy

from torch import nn
from transformers.utils.quantization_config import QuantizationConfigMixin

from .library_noise import leave_out


# A quantized encoder, selector or merger would change the kept patches and codes, and the embeddings and the head
# contain the image ids. Patterns for module names of `LaVITForCausalLM` and `LaVITModel`, in the format of
# transformers.
UNQUANTIZED_MODULES = (
    r"(model\.)?visual_tokenizer",
    r"(model\.)?understanding",
    r"(model\.)?language_model\.embed_tokens",
    "lm_head",
)

# Names of the list of excluded modules in different quantization methods.
SKIP_LIST_NAMES = ("llm_int8_skip_modules", "modules_to_not_convert", "skip_modules", "ignore")

# Attribute by which bitsandbytes enables its 4-bit kernel for CPUs with bf16 in a layer, and the kernel's
# requirements: the number of rows and the row length must be divisible by these.
CPU_KERNEL_SWITCH = "support_avx512bf16_for_cpu"
CPU_KERNEL_ROWS, BLOCK_SIZE = 32, 64


def leave_images_unquantized(config: QuantizationConfigMixin | dict) -> QuantizationConfigMixin:
    """
    Excludes modules that process images from a quantization, so that their codes don't change.

    Args:
        config (`QuantizationConfigMixin` or `dict`):
            The argument of `from_pretrained`. It isn't modified.

    Returns:
        `QuantizationConfigMixin`: A copy with more excluded modules, if the method supports it.
    """
    # bitsandbytes logs this in every layer of every forward, although the cast is intended.
    leave_out("bitsandbytes.autograd._functions", "MatMul8bitLt: inputs will be cast from")
    if isinstance(config, dict):
        from transformers.quantizers import AutoQuantizationConfig  # imports all installed quantization libraries

        config = AutoQuantizationConfig.from_dict(config)
    config = copy.deepcopy(config)
    for name in SKIP_LIST_NAMES:
        if hasattr(config, name):
            setattr(config, name, [*(getattr(config, name) or []), *UNQUANTIZED_MODULES])
    return config


def avoid_unfit_kernels(model: nn.Module) -> None:
    """
    Disables one of bitsandbytes' kernels for 4-bit layers with unsupported widths, in which it would fail in the first
    forward. The general implementation is used instead.

    Args:
        model (`nn.Module`):
            A loaded model, quantized or not.
    """
    for module in model.modules():
        if getattr(module, CPU_KERNEL_SWITCH, False):
            fits = module.out_features % CPU_KERNEL_ROWS == 0 and module.in_features % BLOCK_SIZE == 0
            setattr(module, CPU_KERNEL_SWITCH, fits)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""User options: the model, how to load it, and checks of texts."""

from dataclasses import dataclass
from enum import Enum

from .failures import Failure


MAX_TEXT = 100_000  # characters; far beyond any model's context, but still tokenized quickly


class DType(str, Enum):
    """Dtype that the model computes in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Quantization(str, Enum):
    """Quantization of the language model's weights."""

    four_bit = "4bit"
    eight_bit = "8bit"


@dataclass(frozen=True)
class ModelOptions:
    """
    The model and how to load it.

    Args:
        model (`str`, *optional*):
            Path or Hub id. Defaults to the bundled checkpoint.
        device (`str`, *optional*, defaults to `"auto"`):
            Name of a torch device; `"auto"` is the accelerator, if there is one.
        dtype (`DType`, *optional*):
            Dtype of the model; `auto` is that of the checkpoint, or float32 where the CPU is much faster in it.
        quantize (`Quantization`, *optional*):
            Quantization of the language model.
    """

    model: str | None = None
    device: str = "auto"
    dtype: DType = DType.auto
    quantize: Quantization | None = None


def check_text(text: str | None) -> str | None:
    """
    Rejects a text that is empty or too long for any model, before one is loaded.

    Raises:
        Failure: If the text is empty or too long.
    """
    if text is not None and not text.strip():
        raise Failure("the text is empty.")
    if text is not None and len(text) > MAX_TEXT:
        raise Failure(f"the text has {len(text):,} characters, but at most {MAX_TEXT:,} are read. Shorten it.")
    return text

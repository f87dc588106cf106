# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What users choose: a model, how it is loaded, and the texts it is given."""

from dataclasses import dataclass
from enum import Enum

from .failures import Failure


MAX_TEXT = 100_000  # characters, far beyond the context of any LaVIT and still tokenized in no time


class DType(str, Enum):
    """In what the model calculates."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Quantization(str, Enum):
    """In what the language model's weights are held."""

    four_bit = "4bit"
    eight_bit = "8bit"


@dataclass(frozen=True)
class ModelOptions:
    """
    Which model, and how it is loaded.

    Args:
        model (`str`, *optional*):
            Path or Hub id. The bundled checkpoint by default.
        device (`str`, *optional*, defaults to `"auto"`):
            Name of a torch device; `"auto"` is the accelerator, if there is one.
        dtype (`DType`, *optional*):
            `auto` keeps the checkpoint's.
        quantize (`Quantization`, *optional*):
            Quantization of the language model.
    """

    model: str | None = None
    device: str = "auto"
    dtype: DType = DType.auto
    quantize: Quantization | None = None


def check_text(text: str | None) -> str | None:
    """
    Refuses a text that is empty or too long for any model, before one is loaded.

    Raises:
        Failure: Says which it is.
    """
    if text is not None and not text.strip():
        raise Failure("the text is empty.")
    if text is not None and len(text) > MAX_TEXT:
        raise Failure(f"the text has {len(text):,} characters, but at most {MAX_TEXT:,} are read. Shorten it.")
    return text

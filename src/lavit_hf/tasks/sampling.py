# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Sampling of image tokens, for `draw` and the page."""

from typing import Any


def sampling_settings(temperature: float | None) -> dict[str, Any]:
    """
    Returns the arguments of `generate` for a temperature.

    Args:
        temperature (`float`, *optional*):
            Temperature for image tokens. Defaults to the checkpoint's own; 0 always picks the most likely token.

    Returns:
        `dict`: Arguments of [`~LaVITForCausalLM.generate`].
    """
    if temperature is None:
        return {}
    if temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": temperature}

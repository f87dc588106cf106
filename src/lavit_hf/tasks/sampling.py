# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How image tokens are drawn, for `draw` and the page."""

from typing import Any


def sampling_settings(temperature: float | None) -> dict[str, Any]:
    """
    What `generate` is told of a temperature.

    Args:
        temperature (`float`, *optional*):
            Temperature of image tokens. The checkpoint's own by default; 0 takes the most likely token every time.

    Returns:
        `dict`: Arguments of [`~LaVITForCausalLM.generate`].
    """
    if temperature is None:
        return {}
    if temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": temperature}

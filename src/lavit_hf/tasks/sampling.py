# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Sampling at a temperature."""

from typing import Any


LOWEST_TEMPERATURE = 1e-5  # logits that are divided by less overflow


def is_greedy(temperature: float) -> bool:
    """Whether the most likely token is picked, because the temperature is 0 or too close to it to divide by."""
    return temperature < LOWEST_TEMPERATURE


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
    if is_greedy(temperature):
        return {"do_sample": False}
    return {"do_sample": True, "temperature": temperature}

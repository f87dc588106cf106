# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How likely a text is, by the loss of the model."""

import torch
from PIL import Image

from lavit_hf import LaVITForCausalLM, LaVITProcessor
from lavit_hf.lavit.modeling_layers import IGNORE_INDEX


@torch.no_grad()
def score_by_loss(
    model: LaVITForCausalLM, processor: LaVITProcessor, images: list[Image.Image], prompt: str, text: str
) -> float:
    """The sum of the log-probabilities of the tokens of `text` behind a prompt, by `forward` with labels."""
    inputs = processor(images=images, text=prompt + text).to(model.device, model.dtype)
    labels = inputs["input_ids"].clone()
    labels[:, : processor(images=images, text=prompt)["input_ids"].shape[1]] = IGNORE_INDEX
    return -model(**inputs, labels=labels).loss.item() * int((labels != IGNORE_INDEX).sum())

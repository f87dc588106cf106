# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How likely a text is, prompt by prompt."""

import torch
from PIL import Image

from lavit_hf import LaVITForCausalLM, LaVITProcessor


@torch.no_grad()
def score_by_forward(
    model: LaVITForCausalLM, processor: LaVITProcessor, images: list[Image.Image], prompt: str, text: str
) -> float:
    """The sum of the log-probabilities of the tokens of `text` behind a prompt."""
    inputs = processor(images=images, text=prompt + text).to(model.device, model.dtype)
    prompt_length = processor(images=images, text=prompt)["input_ids"].shape[1]
    ids = inputs["input_ids"][0, prompt_length:].tolist()
    log_probs = model(**inputs).logits[0].log_softmax(dim=-1)
    return sum(log_probs[place - len(ids) - 1, id].item() for place, id in enumerate(ids))

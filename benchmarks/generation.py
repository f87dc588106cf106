# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures guided image generation in image tokens per second, with both branches in one doubled pass vs. two passes; the
time to the first token with one image in the prompt; and memory.
"""

import resource
from typing import Annotated

import torch
import typer
from timing import median_seconds, print_machine, print_table
from transformers import DynamicCache

from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITVisualTokenizerConfig


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GUIDANCE = 4.0


def build_model(layers: int, dtype: torch.dtype) -> LaVITForCausalLM:
    """The given number of LLaMA-7B layers, and a full-size visual tokenizer with few encoder layers."""
    visual_config = LaVITVisualTokenizerConfig(selection="ratio", merger_softmax="masked", num_hidden_layers=2)
    visual_config.encoder_config.num_hidden_layers = 4
    config = LaVITConfig(visual_tokenizer_config=visual_config)
    config.text_config.num_hidden_layers = layers
    torch.set_default_dtype(dtype)
    model = LaVITForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def write_in_two_passes(model: LaVITForCausalLM, input_ids: torch.Tensor, num_tokens: int) -> None:
    """The same greedy generation, with a separate pass and cache for each branch."""
    start = torch.full((input_ids.shape[0], 1), model.config.image_start_token_id)
    first_code = model.config.first_code_token_id
    branches = [(input_ids, DynamicCache()), (start, DynamicCache())]
    for _ in range(num_tokens):
        cond, uncond = (
            model(ids, cache=cache, use_cache=True, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)
            for ids, cache in branches
        )
        scores = GUIDANCE * (cond - uncond) + uncond
        token = first_code + scores[:, first_code:].argmax(dim=-1, keepdim=True)
        branches = [(token, cache) for _, cache in branches]


@torch.inference_mode()
def measure(model: LaVITForCausalLM, batch_size: int, num_tokens: int, repeats: int) -> tuple[str, ...]:
    """Tokens per second with one pass and with two, their ratio, and the time to the first token."""
    start = model.config.image_start_token_id
    input_ids = torch.randint(3, model.config.text_vocab_size, (batch_size, 16))
    input_ids[:, -1] = start
    settings = {"generation_mode": "image", "guidance_scale": GUIDANCE, "do_sample": False}
    caption = torch.tensor([[start, start + 1]] * batch_size)
    pixel_values = torch.randn(batch_size, 3, 224, 224, dtype=model.dtype)
    seconds = median_seconds(
        {
            "one": lambda: model.generate(input_ids, max_new_tokens=num_tokens, min_new_tokens=num_tokens, **settings),
            "two": lambda: write_in_two_passes(model, input_ids, num_tokens),
            "first": lambda: model.generate(caption, pixel_values, max_new_tokens=1, min_new_tokens=1, num_beams=1),
        },
        repeats,
    )
    return (
        f"{batch_size * num_tokens / seconds['one']:.2f}",
        f"{batch_size * num_tokens / seconds['two']:.2f}",
        f"{seconds['two'] / seconds['one']:.2f}",
        f"{seconds['first']:.2f}",
    )


def main(
    layers: Annotated[int, typer.Option(help="Number of LLaMA-7B layers; 4 take 5 GB in fp32.")] = 4,
    num_tokens: Annotated[int, typer.Option(help="Number of tokens per image.")] = 12,
    repeats: Annotated[int, typer.Option(help="Number of timed runs; the median is shown.")] = 3,
) -> None:
    """Time guided image generation in bf16 and fp32, with batch sizes 1 and 4."""
    print_machine()
    rows = []
    for name in ("bf16", "fp32"):
        torch.manual_seed(0)
        model = build_model(layers, DTYPES[name])
        for batch_size in (1, 4):
            figures = measure(model, batch_size, num_tokens, repeats)
            gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            rows.append((name, str(batch_size), *figures, f"{gigabytes:.1f}"))
        del model
    head = (
        "dtype",
        "batch",
        "one pass, tokens/s",
        "two passes, tokens/s",
        "ratio",
        "first token with an image, s",
        "peak memory so far, GB",
    )
    print_table(head, rows)


if __name__ == "__main__":
    typer.run(main)

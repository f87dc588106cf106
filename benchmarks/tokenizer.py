# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures images per second of the full-size visual tokenizer with random weights, and compares them with the limit set
by its matrix products.

The encoder's limit is computed from its number of operations and the measured rate of matrix products of the same
shapes alone. The merger's is the time of its matrix products alone, on the same inputs.
"""

from collections.abc import Callable
from typing import Annotated

import torch
import typer
from timing import median_seconds, print_machine, print_table

from lavit_hf import LaVITVisualTokenizer, LaVITVisualTokenizerConfig


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def build_tokenizer(layers: int, dtype: torch.dtype, merger_softmax: str) -> LaVITVisualTokenizer:
    """LaVIT-7B's visual tokenizer with `layers` encoder blocks, which keeps a third of the patches."""
    config = LaVITVisualTokenizerConfig(selection="ratio", merger_softmax=merger_softmax)
    config.encoder_config.num_hidden_layers = layers
    config.encoder_config.initializer_range = 0.02
    return LaVITVisualTokenizer(config).eval().to(dtype)


def encoder_flops(config: LaVITVisualTokenizerConfig) -> float:
    """Number of multiplications and additions of the encoder per image."""
    encoder = config.encoder_config
    tokens, width = config.num_patches + 1, encoder.hidden_size
    linear = 2 * tokens * sum(rows * columns for rows, columns in layer_shapes(config))
    attention = 4 * tokens**2 * width
    patches = 2 * config.num_patches * 3 * config.patch_size**2 * width
    return encoder.num_hidden_layers * (linear + attention) + patches


def layer_shapes(config: LaVITVisualTokenizerConfig) -> list[tuple[int, int]]:
    """The matrix shapes of an encoder block: query-key-value, projection, and the two of the MLP."""
    width, inner = config.encoder_config.hidden_size, config.encoder_config.intermediate_size
    return [(width, 3 * width), (width, width), (width, inner), (inner, width)]


def matmul_block(config: LaVITVisualTokenizerConfig, batch_size: int, dtype: torch.dtype):
    """The matrix products of two encoder blocks, and their number of operations."""
    rows = batch_size * (config.num_patches + 1)
    pairs = [
        (torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype))
        for inputs, outputs in layer_shapes(config) * 2
    ]
    flops = sum(2 * rows * weight.numel() for _, weight in pairs)
    return lambda: [torch.nn.functional.linear(states, weight) for states, weight in pairs], flops


def matrix_products(module: torch.nn.Module, *inputs: torch.Tensor) -> Callable[[], list[torch.Tensor]]:
    """A function that runs only the matrix products of a call of a module."""
    calls = []
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    hooks = [layer.register_forward_hook(lambda layer, given, _: calls.append((layer, *given))) for layer in layers]
    module(*inputs)
    for hook in hooks:
        hook.remove()
    return lambda: [torch.nn.functional.linear(states, layer.weight, layer.bias) for layer, states in calls]


@torch.inference_mode()
def measure(tokenizers: dict[str, LaVITVisualTokenizer], batch_size: int, repeats: int) -> dict[str, float]:
    """Times of the encoder, of the merger and the whole tokenizer with each softmax, and of the limits, in seconds."""
    original, masked = tokenizers["original"], tokenizers["masked"]
    config = original.config
    pixel_values = torch.randn(batch_size, 3, config.image_size, config.image_size, dtype=original.dtype)
    block, block_flops = matmul_block(config, batch_size, original.dtype)
    hidden_states = torch.randn(batch_size, config.num_patches, config.hidden_size, dtype=original.dtype)
    keep_mask = torch.zeros(batch_size, config.num_patches, dtype=torch.bool)
    keep_mask[:, ::3] = True
    seconds = median_seconds(
        {
            "encoder": lambda: original.encoder(pixel_values),
            "block": block,
            "merger original": lambda: original.merger(hidden_states, keep_mask),
            "merger masked": lambda: masked.merger(hidden_states, keep_mask),
            "merger bound": matrix_products(masked.merger, hidden_states, keep_mask),
            "original": lambda: original(pixel_values),
            "masked": lambda: masked(pixel_values),
        },
        repeats,
    )
    seconds["rate"] = block_flops / seconds["block"] / 1e9
    seconds["bound"] = batch_size * encoder_flops(config) / block_flops * seconds["block"]
    return seconds


def main(
    layers: Annotated[int, typer.Option(help="Number of encoder blocks; 40 at full size.")] = 40,
    repeats: Annotated[int, typer.Option(help="Number of timed runs; the median is shown.")] = 5,
) -> None:
    """Time the visual tokenizer in fp32 and bf16, with each softmax, with batch sizes 1 and 4."""
    print_machine()
    rows, encoder_seconds = [], {}
    for name, dtype in DTYPES.items():
        torch.manual_seed(0)
        tokenizers = {"original": build_tokenizer(layers, dtype, "original")}
        tokenizers["masked"] = build_tokenizer(layers, dtype, "masked")
        tokenizers["masked"].encoder = tokenizers["original"].encoder  # only one in memory
        for batch_size in (1, 4):
            seconds = measure(tokenizers, batch_size, repeats)
            encoder_seconds[name, batch_size] = seconds["encoder"]
            rows.append(
                (
                    name,
                    str(batch_size),
                    f"{seconds['rate']:.0f}",
                    f"{batch_size / seconds['encoder']:.2f}",
                    f"{seconds['bound'] / seconds['encoder']:.0%}",
                    f"{seconds['merger original'] / seconds['merger masked']:.2f}",
                    f"{seconds['merger bound'] / seconds['merger masked']:.0%}",
                    f"{batch_size / seconds['original']:.2f}",
                    f"{batch_size / seconds['masked']:.2f}",
                    f"{encoder_seconds['fp32', batch_size] / seconds['encoder']:.2f}",
                )
            )
        del tokenizers
    head = (
        "dtype",
        "batch",
        "matmul GFLOP/s",
        "encoder images/s",
        "share of the limit",
        "merger, original / masked",
        "masked merger, share of the limit",
        "all, original, images/s",
        "all, masked, images/s",
        "encoder, speed relative to fp32",
    )
    print_table(head, rows)


if __name__ == "__main__":
    typer.run(main)

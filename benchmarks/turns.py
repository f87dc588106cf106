# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Compares two ways to generate a second turn about an image: continuing from the cache of the first turn, and reading
image and text again.

    python benchmarks/turns.py
    python benchmarks/turns.py --layers 2   # two LLaMA-7B layers, and a full-size visual tokenizer
"""

import copy
from typing import Annotated

import torch
import typer
from generation import build_model
from timing import median_seconds, print_machine, print_table

from lavit_hf import LaVITForCausalLM, bundled_checkpoint


NEW_TOKENS = 4


@torch.inference_mode()
def measure(model: LaVITForCausalLM, repeats: int) -> dict[str, float]:
    """The median time in seconds of a second turn with four prompt ids and four generated ids, for each way."""
    config, visual_config = model.config, model.config.visual_tokenizer_config
    start = config.image_start_token_id
    ids = torch.cat([torch.tensor([start, start + 1]), torch.arange(8) + config.num_control_tokens])[None]
    pixel_values = torch.randn(1, 3, visual_config.image_size, visual_config.image_size, dtype=model.dtype)
    settings = {"max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS, "do_sample": False, "num_beams": 1}
    first = model.generate(ids, pixel_values=pixel_values, return_dict_in_generate=True, **settings)
    second = torch.cat([first.sequences, torch.arange(4)[None] + config.num_control_tokens], dim=1)

    def go_on() -> torch.Tensor:
        return model.generate(second, cache=copy.deepcopy(first.cache), **settings)

    def read_again() -> torch.Tensor:
        return model.generate(second, pixel_values=pixel_values, **settings)

    if not torch.equal(go_on(), read_again()):
        raise RuntimeError("the two ways generate different texts, so their times can't be compared.")
    return median_seconds({"continued": go_on, "read again": read_again}, repeats)


def main(
    layers: Annotated[
        int | None, typer.Option(help="Number of random LLaMA-7B layers; by default, the bundled model is used.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Number of timed runs.")] = 9,
) -> None:
    """Print the times of both ways, and their ratio."""
    print_machine()
    torch.manual_seed(0)
    model = build_model(layers, torch.float32) if layers else LaVITForCausalLM.from_pretrained(bundled_checkpoint())
    seconds = measure(model.eval(), repeats)
    ratio = seconds["read again"] / seconds["continued"]
    print_table((*seconds, "ratio"), [(*(f"{value:.3f} s" for value in seconds.values()), f"{ratio:.2f}")])


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Combines the outputs of the training stages into one repo, which `lavit` and `LaVITPipeline` can load.

    python examples/bundle.py --language-model toy/language-model --pixel-decoder toy/pixel-decoder --output toy/lavit
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from lavit_hf.lavit.atomic_files import atomic_folder
from lavit_hf.training.bundling import load_trained_parts
from lavit_hf.training.command_line import run_script


DTYPE = torch.bfloat16  # of the saved weights


def main(
    language_model: Annotated[Path, typer.Option(help="Output of pretrain.py.", exists=True)],
    pixel_decoder: Annotated[Path, typer.Option(help="Output of train_pixel_decoder.py.", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder for the complete repo.")],
    guidance: Annotated[float | None, typer.Option(help="Default guidance scale for images.")] = None,
    steps: Annotated[int | None, typer.Option(help="Default number of denoising steps.", min=1)] = None,
) -> None:
    """Write the complete repo to a new folder."""
    pipeline = load_trained_parts(language_model, pixel_decoder, DTYPE, guidance, steps)
    with atomic_folder(output) as folder:
        pipeline.save_pretrained(folder)
    print(output)


if __name__ == "__main__":
    run_script(partial(typer.run, main))

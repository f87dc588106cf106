# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Combines the outputs of the three stages into one repo, in bf16, as bundled with the package.

    python examples/emoji/bundle.py --language-model .cache/emoji/language-model \
        --pixel-decoder .cache/emoji/pixel-decoder --output .cache/emoji/lavit-emoji
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from lavit_hf.lavit.atomic_files import atomic_folder
from lavit_hf.training.bundling import load_trained_parts
from lavit_hf.training.errors import TrainingError


MOST_MEGABYTES = 36


def repo_megabytes(folder: Path) -> float:
    """Total size of the files in a folder, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def compact(folder: Path) -> None:
    """Removes whitespace from the tokenizer files, which makes up a third of their size."""
    for path in folder.rglob("tokenizer.json"):
        path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")))


def forget_paths(folder: Path) -> None:
    """Removes the local paths of the models from the configurations."""
    for path in (*folder.rglob("config.json"), folder / "model_index.json"):
        config = json.loads(path.read_text(), object_hook=_without_path)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _without_path(entries: dict) -> dict:
    return {name: value for name, value in entries.items() if name != "_name_or_path"}


def main(
    language_model: Annotated[Path, typer.Option(help="Output of pretrain.py.")],
    pixel_decoder: Annotated[Path, typer.Option(help="Output of train_pixel_decoder.py.")],
    output: Annotated[Path, typer.Option(help="Folder for the repo.")],
    guidance: Annotated[float, typer.Option(help="Guidance scale, chosen on the validation split.")] = 4.0,
    steps: Annotated[int, typer.Option(help="Number of denoising steps, chosen with compare_steps.py.")] = 10,
) -> None:
    """Write the repo, replacing an existing one."""
    pipeline = load_trained_parts(language_model, pixel_decoder, torch.bfloat16, guidance, steps)
    pipeline.language_model.config.text_config.attention_dropout = 0.0  # dropout was only for this training
    with atomic_folder(output, replace=True) as folder:
        pipeline.save_pretrained(folder)
        compact(folder)
        forget_paths(folder)
        size = repo_megabytes(folder)
        if size > MOST_MEGABYTES:
            raise TrainingError(
                f"the repo takes {size:.1f} MB, but at most {MOST_MEGABYTES} MB are allowed in the package."
            )
    print(f"{output}: {size:.1f} MB")


if __name__ == "__main__":
    typer.run(main)

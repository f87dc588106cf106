# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Arguments and options shared by commands."""

import math
from pathlib import Path
from typing import Annotated

import typer

from ..lavit.keep_settings import KEEP_SETTINGS, KeepSettings, check_keep_settings
from ..pixels.picture_sizes import ASPECT_RATIOS
from ..tasks.failures import Failure
from ..tasks.options import DType, Quantization
from ..tasks.options import check_text as check_any_text


PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

MODEL_PANEL = "Model"
OUTPUT_PANEL = "Output"
PATCHES_PANEL = "Patches to keep (one of these)"


def check_text(text: str | None) -> str | None:
    """Raises a usage error for a text that no model can read."""
    try:
        return check_any_text(text)
    except Failure as failure:
        raise typer.BadParameter(str(failure)) from failure


def check_finite(number: float | None) -> float | None:
    """Raises a usage error for NaN and infinity, which typer accepts as numbers."""
    if number is not None and not math.isfinite(number):
        raise typer.BadParameter(f"{number} is not a finite number.")
    return number


def check_keep(**settings: float | None) -> KeepSettings:
    """Returns the settings for patches to keep. Raises a usage error if they are invalid."""
    try:
        return check_keep_settings(**settings)
    except ValueError as error:
        option_names = str(error)
        for name in KEEP_SETTINGS:
            option_names = option_names.replace(name, f"--{name.replace('_', '-')}")
        raise typer.BadParameter(option_names) from error


def check_aspect_ratio(name: str | None) -> str | None:
    """Raises a usage error for an unknown aspect ratio."""
    if name is not None and name not in ASPECT_RATIOS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(ASPECT_RATIOS)}.")
    return name


def check_picture_name(path: Path) -> Path:
    """Raises a usage error for a file name without a known image extension."""
    if path.suffix.lower() not in PICTURE_ENDINGS:
        raise typer.BadParameter(f"{path} must end in one of {', '.join(PICTURE_ENDINGS)}.")
    return path


Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        help="Images: files, folders (without subfolders), globs ('**' for any depth), URLs, or - for an image on "
        "standard input.",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of images per batch.")]
ReadingBatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Number of images per batch; the default depends on the size of the model."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Folder or Hub id of a model or an adapter; the bundled checkpoint by default.",
        rich_help_panel=MODEL_PANEL,
    ),
]
Device = Annotated[
    str, typer.Option(help="Device to run on, such as auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=MODEL_PANEL)
]
DTypeOption = Annotated[
    DType,
    typer.Option(
        help="Dtype to compute in; auto is the checkpoint's dtype, or float32 if that is much faster on the CPU.",
        rich_help_panel=MODEL_PANEL,
    ),
]
StoredDTypeOption = Annotated[DType, typer.Option(help="Dtype to cast the weights to; auto keeps their dtype.")]
Quantize = Annotated[
    Quantization | None,
    typer.Option(help="Load the language model's weights in 4 or 8 bits.", rich_help_panel=MODEL_PANEL),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**63 - 1,
        metavar="<int>",
        help="Seed for repeatable results; by default, it differs in every run.",
        rich_help_panel=MODEL_PANEL,
    ),
]
NumBeams = Annotated[int | None, typer.Option(min=1, help="Number of beams; the default depends on the command.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Maximum length of the text, in tokens.")]
KeepRatio = Annotated[
    float | None,
    typer.Option(
        help="Share of the patches to keep, above 0 and at most 1; by default, the checkpoint's own rule applies.",
        rich_help_panel=PATCHES_PANEL,
    ),
]
KeepThreshold = Annotated[
    float | None,
    typer.Option(
        help="Keep the patches whose keep probability is above this threshold, between 0 and 1.",
        rich_help_panel=PATCHES_PANEL,
    ),
]
KeepError = Annotated[
    float | None,
    typer.Option(
        help="Keep the fewest patches that reconstruct the image's features within this error, between 0 and 1.",
        rich_help_panel=PATCHES_PANEL,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per image.", rich_help_panel=OUTPUT_PANEL)]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite existing files.", rich_help_panel=OUTPUT_PANEL)]
OutputFolder = Annotated[
    Path,
    typer.Option("--output", "-o", file_okay=False, help="Folder for the images.", rich_help_panel=OUTPUT_PANEL),
]
OutputFile = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        callback=check_picture_name,
        help="File to create; multiple images are numbered.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Number of denoising steps; the pipeline's by default.", show_default=False)
]
Guidance = Annotated[
    float | None,
    typer.Option(
        min=0.0, callback=check_finite, help="How closely the image follows the tokens; 1 or less turns guidance off."
    ),
]

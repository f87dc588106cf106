# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Arguments and options that commands share."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


MAX_TEXT = 100_000  # characters, far beyond the context of any LaVIT and still tokenized in no time

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")

MODEL_PANEL = "Model"
OUTPUT_PANEL = "Output"


class DType(str, Enum):
    """In what the model calculates."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Quantization(str, Enum):
    """In what the language model's weights are held."""

    four_bit = "4bit"
    eight_bit = "8bit"


@dataclass(frozen=True)
class ModelOptions:
    """
    Which model, and how it is loaded.

    Args:
        model (`str`, *optional*):
            Path or Hub id. The bundled checkpoint by default.
        device (`str`, *optional*, defaults to `"auto"`):
            Name of a torch device; `"auto"` is the accelerator, if there is one.
        dtype (`DType`, *optional*):
            `auto` keeps the checkpoint's.
        quantize (`Quantization`, *optional*):
            Quantisation of the language model.
    """

    model: str | None = None
    device: str = "auto"
    dtype: DType = DType.auto
    quantize: Quantization | None = None


def check_text(text: str | None) -> str | None:
    """Refuses a text that is empty or too long for any model, before one is loaded."""
    if text is not None and not text.strip():
        raise typer.BadParameter("the text is empty.")
    if text is not None and len(text) > MAX_TEXT:
        raise typer.BadParameter(f"the text has {len(text):,} characters; at most {MAX_TEXT:,} are read.")
    return text


def check_picture_name(path: Path) -> Path:
    """Refuses a name whose ending stands for no kind of picture."""
    if path.suffix.lower() not in PICTURE_ENDINGS:
        raise typer.BadParameter(f"{path} must end in one of {', '.join(PICTURE_ENDINGS)}.")
    return path


Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        help="Pictures: files, folders, globs, URLs, or - for a picture on standard input.",
        show_default=False,
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="How many pictures the model gets at once.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="Folder or Hub id; by default the bundled checkpoint.", rich_help_panel=MODEL_PANEL
    ),
]
Device = Annotated[
    str, typer.Option(help="Where to run: auto, cpu, cuda, cuda:1, mps and so on.", rich_help_panel=MODEL_PANEL)
]
DTypeOption = Annotated[
    DType,
    typer.Option(help="What to calculate in; auto is what the checkpoint is stored in.", rich_help_panel=MODEL_PANEL),
]
Quantize = Annotated[
    Quantization | None,
    typer.Option(help="Hold the language model's weights in fewer bits.", rich_help_panel=MODEL_PANEL),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**63 - 1,
        metavar="<int>",
        help="Makes the same command give the same result; by default every run draws anew.",
        rich_help_panel=MODEL_PANEL,
    ),
]
NumBeams = Annotated[
    int | None, typer.Option(min=1, help="Width of the beam search; by default what the command is made for.")
]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Longest text, in tokens.")]
KeepRatio = Annotated[
    float | None,
    typer.Option(
        min=0.0, max=1.0, help="Keep this share of the patches; by default the checkpoint's own rule decides."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object for each picture.", rich_help_panel=OUTPUT_PANEL)
]
Force = Annotated[
    bool, typer.Option("--force", "-f", help="Overwrite files that exist.", rich_help_panel=OUTPUT_PANEL)
]
OutputFolder = Annotated[
    Path,
    typer.Option("--output", "-o", file_okay=False, help="Folder for the pictures.", rich_help_panel=OUTPUT_PANEL),
]
OutputFile = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        callback=check_picture_name,
        help="File to make; several pictures are numbered.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Denoising steps; by default the pipeline's.", show_default=False)
]
Guidance = Annotated[float | None, typer.Option(help="How closely the painting follows the tokens; 1 is not at all.")]

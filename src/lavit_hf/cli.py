# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The `lavit` command: parses, calls, prints. What is heavy is imported by the command that needs it."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .configuration_lavit import LaVITVisualTokenizerConfig


app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False)


class DType(str, Enum):
    float16 = "float16"
    bfloat16 = "bfloat16"
    float32 = "float32"


class PixelDecoder(str, Enum):
    none = "none"
    highres = "highres"
    lowres = "lowres"


@app.callback()
def lavit() -> None:
    """LaVIT: one language model that reads and writes images."""


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Top folder of an original LaVIT checkpoint.")],
    destination: Annotated[Path, typer.Argument(help="Folder to make; it must not exist.")],
    num_attention_heads: Annotated[
        int, typer.Option(help="Heads of encoder, merger and detokenizer, which a checkpoint does not tell.", min=1)
    ] = LaVITVisualTokenizerConfig.num_attention_heads,
    pixel_decoder: Annotated[PixelDecoder, typer.Option(help="The pixel decoder to take along.")] = PixelDecoder.none,
    dtype: Annotated[DType | None, typer.Option(help="Cast the weights; by default they keep their dtype.")] = None,
) -> None:
    """Convert an original LaVIT checkpoint into a Hugging Face folder."""
    import torch

    from .conversion import ConversionError, convert_checkpoint

    try:
        convert_checkpoint(
            source,
            destination,
            num_attention_heads,
            dtype=None if dtype is None else getattr(torch, dtype.value),
            pixel_decoder=pixel_decoder.value,
        )
    except (ConversionError, OSError) as error:
        typer.echo(f"lavit convert: {error}", err=True)
        raise typer.Exit(code=1) from error
    entry = "LaVITForCausalLM" if pixel_decoder is PixelDecoder.none else "LaVITPipeline"
    typer.echo(f"{destination} is ready, with {num_attention_heads} attention heads in its visual parts.")
    typer.echo(f"{entry}.from_pretrained({str(destination)!r})")


if __name__ == "__main__":
    app()

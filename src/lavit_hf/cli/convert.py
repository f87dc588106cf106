# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit convert`."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..conversion.folders import check_folders
from ..tasks.options import DType
from .options import StoredDTypeOption


class PixelDecoder(str, Enum):
    """The original's pixel decoders."""

    none = "none"
    highres = "highres"
    lowres = "lowres"


def convert(
    source: Annotated[Path, typer.Argument(help="Root folder of an original LaVIT checkpoint.")],
    destination: Annotated[Path, typer.Argument(help="Folder to create; it must not exist yet.")],
    num_attention_heads: Annotated[
        int | None,
        typer.Option(
            help="Attention heads of the encoder, merger and detokenizer, which the checkpoint doesn't contain; "
            "LaVIT-7B's by default.",
            min=1,
        ),
    ] = None,
    pixel_decoder: Annotated[
        PixelDecoder, typer.Option(help="The pixel decoder to convert as well.")
    ] = PixelDecoder.none,
    dtype: StoredDTypeOption = DType.auto,
    allow_nan: Annotated[
        bool, typer.Option("--allow-nan", help="Convert even if some weights are NaN or infinite.")
    ] = False,
) -> None:
    """Convert an original LaVIT checkpoint to the Hugging Face format."""
    check_folders(source, destination)
    import torch

    from ..conversion import convert_checkpoint
    from ..lavit.configuration_lavit import LaVITVisualTokenizerConfig

    heads = num_attention_heads or LaVITVisualTokenizerConfig.num_attention_heads
    convert_checkpoint(
        source,
        destination,
        heads,
        dtype=None if dtype is DType.auto else getattr(torch, dtype.value),
        pixel_decoder=pixel_decoder.value,
        allow_nan=allow_nan,
    )
    entry = "LaVITForCausalLM" if pixel_decoder is PixelDecoder.none else "LaVITPipeline"
    typer.echo(f"{destination} is ready, with {heads} attention heads in its vision modules.")
    typer.echo(f"{entry}.from_pretrained({str(destination)!r})")

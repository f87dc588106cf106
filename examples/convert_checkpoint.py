# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Converts an original LaVIT checkpoint and loads the result.

    python examples/convert_checkpoint.py LaVIT-7B-v2 lavit-7b --pixel-decoder highres
    python examples/convert_checkpoint.py modeling_tests/golden/original tiny --heads 4
"""

from pathlib import Path
from typing import Annotated

import typer

from lavit_hf import LaVITForCausalLM, LaVITPipeline
from lavit_hf.conversion import ConversionError, convert_checkpoint


def main(
    source: Annotated[Path, typer.Argument(help="Root folder of the original checkpoint.")],
    destination: Annotated[Path, typer.Argument(help="Folder to create.")],
    pixel_decoder: Annotated[str, typer.Option(help="Pixel decoder to convert: none, highres or lowres.")] = "none",
    heads: Annotated[int, typer.Option(help="Attention heads of the vision modules; LaVIT-7B's by default.")] = 16,
) -> None:
    """Convert an original LaVIT checkpoint and load the result."""
    try:
        convert_checkpoint(source, destination, heads, pixel_decoder=pixel_decoder)
    except (ConversionError, FileExistsError, ValueError) as error:
        raise SystemExit(str(error)) from error
    kind = LaVITForCausalLM if pixel_decoder == "none" else LaVITPipeline
    kind.from_pretrained(destination)
    print(f"{kind.__name__}.from_pretrained({str(destination)!r}) works")


if __name__ == "__main__":
    typer.run(main)

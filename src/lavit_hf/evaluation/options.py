# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What users choose of an evaluation."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ..tasks.options import ModelOptions


CLIP = "openai/clip-vit-large-patch14"


class Tokenizer(str, Enum):
    """What cuts captions into words before they are compared."""

    ptb = "ptb"
    words = "words"


@dataclass(frozen=True)
class EvaluationOptions:
    """
    An evaluation of a model.

    Args:
        task (`str`):
            A name of `BENCHMARKS`, as `"coco"`, `"vqav2"` or `"captions"`.
        data (`Path`):
            A folder with the benchmark's annotation files and its images, or one of the `datasets` library.
        model (`ModelOptions`, *optional*):
            Which model; the bundled checkpoint by default.
        output (`Path`, *optional*, defaults to `Path("evaluation")`):
            Folder for the result, the table and painted images.
        protocol (`str`, *optional*, defaults to `"paper"`):
            `"paper"`, for images also `"released"`, or `"own"`: the checkpoint's own settings.
        split (`str`, *optional*):
            The split, where the data have several; `"test"` by default.
        column (`str`, *optional*):
            The column of captions, questions or prompts in a folder of `datasets`.
        batch_size (`int`, *optional*, defaults to 8):
            Samples at once.
        seed (`int`, *optional*, defaults to 0):
            Seed of all draws.
        limit (`int`, *optional*):
            Most samples, to rehearse.
        tokenizer (`Tokenizer`, *optional*):
            `ptb` as in published scores, which needs Java; or `words`, which needs nothing.
        spice (`bool`, *optional*):
            Whether captions are scored by SPICE; by default where all that it needs is there.
        fid (`bool`, *optional*, defaults to `True`):
            Whether images are scored by FID.
        fid_weights (`Path`, *optional*):
            File with Inception's weights; downloaded by default.
        clip (`str`, *optional*, defaults to `"openai/clip-vit-large-patch14"`):
            Folder or Hub id of the CLIP that chooses and scores images.
    """

    task: str
    data: Path
    model: ModelOptions = field(default_factory=ModelOptions)
    output: Path = Path("evaluation")
    protocol: str = "paper"
    split: str | None = None
    column: str | None = None
    batch_size: int = 8
    seed: int = 0
    limit: int | None = None
    tokenizer: Tokenizer = Tokenizer.ptb
    spice: bool | None = None
    fid: bool = True
    fid_weights: Path | None = None
    clip: str = CLIP

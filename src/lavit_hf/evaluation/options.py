# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Options of an evaluation."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from ..tasks.options import ModelOptions


CLIP = "openai/clip-vit-large-patch14"


class Tokenizer(str, Enum):
    """Tokenizer of captions for scoring."""

    ptb = "ptb"
    words = "words"


@dataclass(frozen=True)
class EvaluationOptions:
    """
    Options of an evaluation.

    Args:
        task (`str`):
            A key of `BENCHMARKS`, such as `"coco"`, `"vqav2"` or `"captions"`.
        data (`Path`):
            A folder with the benchmark's annotation files and images, or a folder of the `datasets` library.
        model (`ModelOptions`, *optional*):
            The model. Defaults to the bundled checkpoint.
        output (`Path`, *optional*, defaults to `Path("evaluation")`):
            Folder for the result, the table and generated images.
        protocol (`str`, *optional*, defaults to `"paper"`):
            `"paper"`, `"released"` (images only), or `"own"`, the checkpoint's own settings.
        split (`str`, *optional*):
            The split, if the data has several. Defaults to `"test"`.
        column (`str`, *optional*):
            Column of captions, questions or prompts in a folder of `datasets`.
        batch_size (`int`, *optional*, defaults to 8):
            Number of samples per batch.
        seed (`int`, *optional*, defaults to 0):
            Random seed.
        limit (`int`, *optional*):
            Maximum number of samples, for a trial run.
        tokenizer (`Tokenizer`, *optional*):
            `ptb` as in published scores, which requires Java, or `words`, which requires nothing.
        spice (`bool`, *optional*):
            Whether to score captions with SPICE. By default, SPICE is used if its requirements are installed.
        fid (`bool`, *optional*, defaults to `True`):
            Whether to score images with FID.
        fid_weights (`Path`, *optional*):
            File with Inception's weights. Downloaded by default.
        clip (`str`, *optional*, defaults to `"openai/clip-vit-large-patch14"`):
            Folder or Hub id of the CLIP model that chooses and scores images.
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

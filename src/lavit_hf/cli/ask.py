# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit ask`."""

from typing import Annotated

import typer

from ..tasks.options import DType, ModelOptions
from ..tasks.requests import request_pictures
from .options import (
    AsJson,
    Device,
    DTypeOption,
    Images,
    KeepError,
    KeepRatio,
    KeepThreshold,
    MaxNewTokens,
    Model,
    NumBeams,
    Quantize,
    ReadingBatchSize,
    Seed,
    check_keep,
    check_text,
)


def ask(
    question: Annotated[
        str,
        typer.Argument(help='The question, such as "What is on the sofa?".', callback=check_text, show_default=False),
    ],
    images: Images,
    batch_size: ReadingBatchSize = None,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    keep_ratio: KeepRatio = None,
    keep_threshold: KeepThreshold = None,
    keep_error: KeepError = None,
    model: Model = None,
    device: Device = "auto",
    dtype: DTypeOption = DType.auto,
    quantize: Quantize = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question about each image."""
    keep = check_keep(keep_ratio=keep_ratio, keep_threshold=keep_threshold, keep_error=keep_error)
    request = request_pictures(images, ModelOptions(model, device, dtype, quantize))
    from ..tasks.reading import answer_to, write_texts

    wishes = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, **keep}
    write_texts(answer_to(question), request, wishes, batch_size, seed, as_json)

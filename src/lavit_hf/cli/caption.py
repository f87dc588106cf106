# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit caption`."""

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
)


def caption(
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
    """Describe each image in words."""
    keep = check_keep(keep_ratio=keep_ratio, keep_threshold=keep_threshold, keep_error=keep_error)
    request = request_pictures(images, ModelOptions(model, device, dtype, quantize))
    from ..tasks.reading import CAPTION, write_texts

    wishes = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, **keep}
    write_texts(CAPTION, request, wishes, batch_size, seed, as_json)

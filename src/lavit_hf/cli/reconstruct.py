# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit reconstruct`."""

from pathlib import Path

from ..tasks.options import DType, ModelOptions
from ..tasks.requests import request_pictures
from .options import (
    AsJson,
    BatchSize,
    Device,
    DTypeOption,
    Force,
    Guidance,
    Images,
    KeepError,
    KeepRatio,
    KeepThreshold,
    Model,
    OutputFolder,
    Seed,
    Steps,
    check_keep,
)


def reconstruct(
    images: Images,
    output: OutputFolder = Path("reconstructed"),
    force: Force = False,
    keep_ratio: KeepRatio = None,
    keep_threshold: KeepThreshold = None,
    keep_error: KeepError = None,
    steps: Steps = None,
    guidance: Guidance = None,
    batch_size: BatchSize = 4,
    model: Model = None,
    device: Device = "auto",
    dtype: DTypeOption = DType.auto,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Turn each image into tokens and reconstruct it from them."""
    keep = check_keep(keep_ratio=keep_ratio, keep_threshold=keep_threshold, keep_error=keep_error)
    painting = {"num_inference_steps": steps, "guidance_scale": guidance}
    request = request_pictures(images, ModelOptions(model, device, dtype), output, force, painting=painting)
    from ..tasks.painting import reconstruct_images

    reconstruct_images(request, painting, keep, batch_size, seed, as_json)

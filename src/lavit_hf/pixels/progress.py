# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Progress bars that say what they are of: a picture's tokens are written, then it is painted."""

from diffusers import DiffusionPipeline
from tqdm import tqdm


WRITING, PAINTING = "Writing image tokens", "Denoising"


def named_progress_bar(pipeline: DiffusionPipeline, name: str, total: int) -> tqdm:
    """
    A pipeline's progress bar, as `set_progress_bar_config` has it.

    Args:
        pipeline (`DiffusionPipeline`):
            The pipeline.
        name (`str`):
            What stands in front, unless the user has set another `desc`.
        total (`int`):
            Number of steps.

    Returns:
        `tqdm`: the bar, a context manager.
    """
    progress_bar = pipeline.progress_bar(total=total)
    if not getattr(progress_bar, "desc", None):  # a bar that is not shown has none
        progress_bar.set_description(name)
    return progress_bar


__all__ = ["PAINTING", "WRITING", "named_progress_bar"]

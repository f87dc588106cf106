# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Progress bars that say what they are of: an image's tokens are written, then it is painted."""

from diffusers import DiffusionPipeline
from diffusers.utils.distributed_utils import is_torch_dist_rank_zero
from tqdm.auto import tqdm


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
    # Not by `pipeline.progress_bar`, which would show the bar before it has its name.
    settings = {
        "desc": name,
        "disable": not is_torch_dist_rank_zero(),
        **getattr(pipeline, "_progress_bar_config", {}),
    }
    return tqdm(total=total, **settings)


__all__ = ["PAINTING", "WRITING", "named_progress_bar"]

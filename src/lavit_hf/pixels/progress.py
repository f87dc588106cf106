# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Progress bars with names, for writing image tokens and for denoising."""

from diffusers import DiffusionPipeline
from diffusers.utils.distributed_utils import is_torch_dist_rank_zero
from tqdm.auto import tqdm


WRITING, PAINTING = "Writing image tokens", "Denoising"


def named_progress_bar(pipeline: DiffusionPipeline, name: str, total: int) -> tqdm:
    """
    Creates a progress bar with the settings of `set_progress_bar_config`.

    Args:
        pipeline (`DiffusionPipeline`):
            The pipeline.
        name (`str`):
            Description shown in front, unless the user has set `desc`.
        total (`int`):
            Number of steps.

    Returns:
        `tqdm`: the bar, a context manager.
    """
    # `pipeline.progress_bar` would show the bar before it has a name.
    settings = {
        "desc": name,
        "disable": not is_torch_dist_rank_zero(),
        **getattr(pipeline, "_progress_bar_config", {}),
    }
    return tqdm(total=total, **settings)


__all__ = ["PAINTING", "WRITING", "named_progress_bar"]

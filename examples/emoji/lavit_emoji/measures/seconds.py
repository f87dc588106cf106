# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Measures the CPU time for a caption and an image, which other load on the machine hardly affects."""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from lavit_hf import LaVITPipeline

from .reading import Reader


REPEATS = 3
THIS, CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
LAVIT = (sys.executable, "-m", "lavit_hf.cli")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def second_figures(model: Path, reader: Reader, pipeline: LaVITPipeline, image: Path) -> dict[str, float]:
    """
    Measures the CPU time for a caption and for an image.

    Args:
        model (`Path`): The repo.
        reader ([`Reader`]): The loaded model, for captions.
        pipeline ([`LaVITPipeline`]): The loaded pipeline, for images.
        image (`Path`): The image to caption.

    Returns:
        `dict[str, float]`: CPU time in seconds, the minimum of three runs: for the commands `lavit caption` and `lavit
        draw` on one thread, including loading, and for the loaded model (`caption_alone`, `picture_alone`).
    """
    picture = Image.open(image).convert("RGB")
    with tempfile.TemporaryDirectory() as folder:
        draw = ("draw", "red apple", "--output", str(Path(folder) / "drawn.png"), "--force")
        return {
            "caption": _least(lambda: _command("caption", str(image), "--model", str(model)), CHILDREN),
            "picture": _least(lambda: _command(*draw, "--model", str(model)), CHILDREN),
            "caption_alone": _least(lambda: reader.caption([picture])),
            "picture_alone": _least(lambda: pipeline("red apple")),
        }


def _command(*arguments: str) -> None:
    subprocess.run([*LAVIT, *arguments], check=True, capture_output=True, env=os.environ | ONE_THREAD)


def _least(call: Callable[[], object], who: int = THIS) -> float:
    """The minimum CPU time of several calls, in this process or in its child processes."""
    taken = []
    for _ in range(REPEATS):
        before = resource.getrusage(who)
        call()
        after = resource.getrusage(who)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(taken)

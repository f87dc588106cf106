# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How long a caption and an image take: processor seconds on one thread, which other work hardly changes."""

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
    Times one caption and one image.

    Args:
        model (`Path`): The repo.
        reader ([`Reader`]): The LaVIT, loaded.
        pipeline ([`LaVITPipeline`]): The same.
        image (`Path`): What is captioned.

    Returns:
        `dict[str, float]`: Processor seconds, the least of three: of the commands `lavit caption` and `lavit draw`,
        loading and all, and of the loaded model (`caption_alone`, `picture_alone`).
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
    """The least processor time of several calls, of this process or of those that it waited for."""
    taken = []
    for _ in range(REPEATS):
        before = resource.getrusage(who)
        call()
        after = resource.getrusage(who)
        taken.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(taken)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How the pipeline treats its users: hints, warnings, progress bars, and diffusers' automatic choice of a pipeline."""

import pytest
from diffusers import AutoPipelineForText2Image
from diffusers.utils import logging

from lavit_hf import LaVITPipeline
from lavit_hf.pixels import progress
from lavit_hf.pixels.picture_sizes import ASPECT_RATIOS, resolve_size, warn_if_far


FAST = {"num_inference_steps": 2, "generation_kwargs": {"min_new_tokens": 3, "max_new_tokens": 6}}


@pytest.fixture(scope="module")
def pipeline(repos):
    return LaVITPipeline.from_pretrained(repos["lowres"])


@pytest.fixture
def warnings(monkeypatch):
    """What `picture_sizes` warns of."""
    said = []
    monkeypatch.setattr(logging.get_logger("lavit_hf.pixels.picture_sizes"), "warning", said.append)
    return said


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("image", ": did you mean images=?"),
        ("text", ": did you mean prompt=?"),
        ("negativ_prompt", ": did you mean negative_prompt=?"),
        ("strength", "."),
    ],
)
def test_unknown_arguments(pipeline, name, hint):
    with pytest.raises(TypeError) as error:
        pipeline(**{name: "a cat"})
    assert str(error.value) == f"LaVITPipeline got an unexpected keyword argument {name!r}{hint}"


@pytest.mark.parametrize(("height", "width"), [(1024, 1024), (1216, 832), (1152, 1152), (896, 896)])
def test_usual_sizes(warnings, height, width):
    warn_if_far(1024, *resolve_size(1024, 8, height, width))
    assert all(resolve_size(1024, 8, aspect_ratio=name) == size for name, size in ASPECT_RATIOS.items())
    assert warnings == []


@pytest.mark.parametrize(("height", "width"), [(2048, 2048), (512, 512), (1536, 704), (256, None)])
def test_sizes_far_from_the_training(warnings, height, width):
    warn_if_far(1024, *resolve_size(1024, 8, height, width))
    (text,) = warnings
    assert f"{height} x {width or 1024} pixels is far from the 1024 x 1024" in text


@pytest.mark.parametrize(
    ("config", "names"), [({}, [progress.WRITING, progress.PAINTING]), ({"desc": "x"}, ["x"] * 2)]
)
def test_two_named_progress_bars(pipeline, monkeypatch, config, names):
    bars, make = [], progress.tqdm
    monkeypatch.setattr(progress, "tqdm", lambda **kwargs: bars.append(make(**kwargs)) or bars[-1])
    pipeline.set_progress_bar_config(**config)
    pipeline("a cat", **FAST)
    assert [bar.desc.removesuffix(": ") for bar in bars] == names
    assert [(bar.n, bar.total) for bar in bars] == [(6, 6), (2, 2)]
    pipeline.set_progress_bar_config(disable=True)
    pipeline("a cat", **FAST)


def test_automatic_choice(pipeline, repos):
    assert type(AutoPipelineForText2Image.from_pretrained(repos["lowres"])) is LaVITPipeline
    assert AutoPipelineForText2Image.from_pipe(pipeline).unet is pipeline.unet

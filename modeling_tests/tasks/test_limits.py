# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What strangers may send: each bound is held, and said in one sentence."""

import io

import pytest
from PIL import Image

from lavit_hf.tasks.failures import Failure
from lavit_hf.tasks.limits import InputLimits, PictureReader, TooLarge


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


def test_pictures_within_the_limits(tmp_path):
    (tmp_path / "red.png").write_bytes(png(3, 2))
    reader = PictureReader()
    for source in (png(3, 2), tmp_path / "red.png"):
        image = reader.read(source, "picture 1")
        assert image.size == (3, 2) and image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("limits", "sizes", "message"),
    [
        ({"picture_pixels": 2_000_000}, [(2001, 1000)], "picture 1 has more than 2 million pixels"),
        (
            {"request_pixels": 3_000_000},
            [(1000, 2000), (1000, 1001)],
            "together, the images have more than 3 million pixels.*picture 2",
        ),
        ({"pictures": 2}, [(1, 1)] * 3, "more than 2 images"),
        ({"picture_bytes": 50}, [(9, 9)], "picture 1 is larger than 0 MB"),
    ],
)
def test_pictures_beyond_the_limits(limits, sizes, message):
    reader = PictureReader(InputLimits(**limits))
    for number, size in enumerate(sizes[:-1], start=1):
        reader.read(png(*size), f"picture {number}")
    with pytest.raises(TooLarge, match=message):
        reader.read(png(*sizes[-1]), f"picture {len(sizes)}")


def test_pixels_of_a_request_up_to_the_last():
    reader = PictureReader(InputLimits(request_pixels=6))
    for _ in range(2):
        reader.read(png(3, 1), "a picture")
    with pytest.raises(TooLarge):
        reader.read(png(1, 1), "a picture")


@pytest.mark.parametrize("name", ["ICO", "EPS"])
def test_formats_that_hide_something(name):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, name)
    with pytest.raises(Failure, match="picture 1 is not an image in a format"):
        PictureReader().read(file.getvalue(), "picture 1")


def test_what_is_no_upload(tmp_path):
    with pytest.raises(Failure, match="picture 1 is no longer there"):
        PictureReader().read(tmp_path / "missing.png", "picture 1")


def test_texts():
    limits = InputLimits(text_characters=3)
    assert limits.check_text("abc") == "abc"
    with pytest.raises(TooLarge, match="4 characters, but at most 3"):
        limits.check_text("abcd")

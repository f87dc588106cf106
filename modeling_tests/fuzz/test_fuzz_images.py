# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Bytes of images: pixels, or a `ValueError` that says which image it is about."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from fuzzing import check_rule, limited, seeds, spoil_bytes
from lavit_hf import LaVITImageProcessorPil


SIZE = 8
GOOD = Image.new("RGB", (SIZE, SIZE), (200, 100, 50))


@pytest.fixture(scope="module")
def image_processor():
    return LaVITImageProcessorPil(size=SIZE)


def encode(image: Image.Image, kind: str, **kwargs) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **kwargs)
    return stream.getvalue()


def files() -> list[bytes]:
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a drawing"
    rgb = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    grey = Image.fromarray(rng.random((9, 7), dtype=np.float32))
    return [
        *(encode(rgb, kind, exif=exif) for kind in ("PNG", "JPEG", "TIFF", "WEBP")),
        *(encode(rgb.convert(mode), "PNG") for mode in ("P", "LA", "1", "I;16")),
        *(encode(rgb, kind) for kind in ("GIF", "BMP", "PPM", "ICO")),
        encode(grey, "TIFF"),
        encode(rgb, "TIFF", compression="tiff_lzw"),
    ]


FILES = files()


@limited(short=150, share=0.3)
@given(rng=seeds)
def test_bytes(image_processor, rng):
    data = spoil_bytes(rng.choice(FILES), rng)
    position = rng.randrange(3)
    batch = [GOOD, GOOD, GOOD]
    batch[position] = data
    pixels = check_rule(lambda: image_processor(batch, return_tensors="pt"), (ValueError,), f"Image {position} of 3")
    assert pixels is None or pixels.pixel_values.isfinite().all()


def with_exif(data: bytes) -> bytes:
    """A PNG with EXIF of any content, its checksum correct."""
    png = encode(GOOD, "PNG")
    chunk = b"eXIf" + data
    return png[:33] + struct.pack(">I", len(data)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def some_exif(rng: random.Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = rng.choice([0, 1, 6, 99]), "a drawing"
    return rng.choice([exif.tobytes()[6:], rng.randbytes(rng.randrange(60)), b"II*\0" + rng.randbytes(30)])


@limited(short=100, share=0.1)
@given(rng=seeds)
def test_exif_never_spoils_a_good_picture(image_processor, rng):
    data = with_exif(spoil_bytes(some_exif(rng), rng))
    expected = image_processor(GOOD, return_tensors="np").pixel_values
    assert np.array_equal(image_processor(data, return_tensors="np").pixel_values, expected)

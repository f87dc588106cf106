# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Good pixels are read, whatever is wrong with the metadata beside them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from lavit_hf.lavit.image_loading import load_image
from lavit_hf.lavit.image_metadata import read_without_metadata


TWO_MEGABYTES = zlib.compress(b"a" * 2**21)  # more than Pillow allows in a text or profile
PNG_HEADER_BYTES = 33  # the signature, and the chunk that comes first


def encoded(format: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(buffer := io.BytesIO(), format, **options)
    return buffer.getvalue()


def png_with(kind: bytes, content: bytes, checksum: int | None = None, **options) -> bytes:
    data = encoded("PNG", **options)
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return data[:PNG_HEADER_BYTES] + chunk + data[PNG_HEADER_BYTES:]


def jpeg_with(number: int, content: bytes, **options) -> bytes:
    data = encoded("JPEG", **options)
    segment = bytes([0xFF, 0xE0 + number]) + struct.pack(">H", len(content) + 2) + content
    return data[:2] + segment + data[2:]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"zTXt", b"key\0\0" + TWO_MEGABYTES),
        (b"iTXt", b"key\0\1\0\0\0" + TWO_MEGABYTES),
        (b"iCCP", b"icc\0\0" + TWO_MEGABYTES),
        (b"iCCP", b""),
        (b"gAMA", b"\0"),
        (b"pHYs", b"\0"),
        (b"cHRM", b"\0"),
        (b"sRGB", b""),
        (b"tRNS", b""),
        (b"acTL", b""),
    ],
)
def test_png(kind, content):
    damaged = png_with(kind, content)
    with pytest.raises(Exception, match=r".+"):
        Image.open(io.BytesIO(damaged)).load()
    assert np.array_equal(load_image(damaged), load_image(encoded("PNG")))


def test_png_with_a_wrong_checksum():
    assert np.array_equal(load_image(png_with(b"tEXt", b"key\0text", checksum=5)), load_image(encoded("PNG")))


@pytest.mark.parametrize(
    ("number", "content"),
    [
        (0, b"JFIF"),
        (0, b"JFIF\0\1"),
        (2, b"ICC_PROFILE\0"),
        (13, b"Photoshop 3.0\0008BIM\x04\x04"),
        (14, b"Adobe"),
    ],
)
def test_jpeg(number, content):
    damaged = jpeg_with(number, content)
    with pytest.raises(Exception, match=r".+"):
        Image.open(io.BytesIO(damaged)).load()
    assert np.array_equal(load_image(damaged), load_image(encoded("JPEG")))


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_orientation_is_kept(format):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    damaged = png_with(b"gAMA", b"", exif=exif) if format == "PNG" else jpeg_with(14, b"Adobe", exif=exif)
    turned = load_image(damaged)
    assert turned.size == (20, 30)
    assert np.array_equal(turned, load_image(encoded(format, exif=exif)))


def test_color_space_of_a_jpeg_is_kept():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(pixels, "CMYK").save(buffer := io.BytesIO(), "JPEG")
    data = buffer.getvalue()
    damaged = data[:2] + b"\xff\xed\x00\x16Photoshop 3.0\x008BIM\x04\x04" + data[2:]
    assert np.array_equal(load_image(damaged), load_image(data))


@pytest.mark.parametrize("data", [encoded("PNG"), encoded("JPEG")], ids=["PNG", "JPEG"])
def test_truncated_pixels_are_refused_as_before(data):
    for length in (len(data) // 4, len(data) // 2):
        with pytest.raises(ValueError, match="image"):
            load_image(data[:length])


def test_other_formats_are_left_alone():
    assert read_without_metadata(io.BytesIO(encoded("GIF")), 2**20) is None
    assert read_without_metadata(io.BytesIO(b""), 2**20) is None


def test_large_files_are_left_alone():
    data = encoded("PNG")
    assert read_without_metadata(io.BytesIO(data), len(data)) is not None
    assert read_without_metadata(io.BytesIO(data), len(data) - 1) is None

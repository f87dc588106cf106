# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Removes metadata from image files, whose damage would keep Pillow from reading the pixels."""

import struct
from typing import BinaryIO


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"eXIf",)  # the orientation; transparency is dropped anyway

JPEG_START, JPEG_SCAN = b"\xff\xd8", 0xDA
JPEG_APPLICATION, JPEG_COMMENT = range(0xE0, 0xF0), 0xFE
JPEG_KEPT = (b"Exif\0\0", b"Adobe\0")  # the orientation, and the color space; the latter has 12 bytes
JPEG_LENGTHS = {b"Adobe\0": 12}


def read_without_metadata(stream: BinaryIO, max_bytes: int) -> bytes | None:
    """
    Reads a PNG or JPEG file without what doesn't change its pixels: texts, color profiles, resolutions and animations.

    Args:
        stream (`BinaryIO`):
            The file.
        max_bytes (`int`):
            Maximum size of the file.

    Returns:
        `bytes` or `None`: The rest of the file, or `None` if it has another format or is larger.
    """
    stream.seek(0)
    signature = stream.read(len(PNG_SIGNATURE))
    if not signature.startswith((PNG_SIGNATURE, JPEG_START)):
        return None
    content = signature + stream.read(max_bytes)
    if len(content) > max_bytes:
        return None
    if signature == PNG_SIGNATURE:
        return PNG_SIGNATURE + _essential_chunks(content)
    return JPEG_START + _essential_segments(content)


def _essential_chunks(content: bytes) -> bytes:
    essential, start = bytearray(), len(PNG_SIGNATURE)
    while start + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        end = start + 12 + length  # with the length, the kind and the checksum
        if kind[:1].isupper() or kind in PNG_KEPT:
            essential += content[start:end]
        start = end
    return bytes(essential)


def _essential_segments(content: bytes) -> bytes:
    essential, start = bytearray(), len(JPEG_START)
    while start + 4 <= len(content):
        _, marker, length = struct.unpack_from(">BBH", content, start)
        if marker == JPEG_SCAN:
            return bytes(essential) + content[start:]
        end = start + 2 + length
        if _is_essential(marker, content[start + 4 : end]):
            essential += content[start:end]
        start = end
    return bytes(essential)


def _is_essential(marker: int, content: bytes) -> bool:
    if marker not in JPEG_APPLICATION and marker != JPEG_COMMENT:
        return True
    return content.startswith(JPEG_KEPT) and len(content) >= JPEG_LENGTHS.get(content[:6], 0)

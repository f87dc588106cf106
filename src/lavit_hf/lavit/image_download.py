# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Downloads images with limits on bytes, on bytes after decompression, and on time."""

import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from huggingface_hub.utils import httpx


DOWNLOAD_TIMEOUT = 20.0  # seconds, from the first byte sent to the last received
MAX_DOWNLOAD_BYTES = 64 * 2**20  # both as sent and after decompression
MAX_REDIRECTS = 5

_DECODERS = {"": None, "identity": None, "gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def download_image(url: str, name: str) -> bytes:
    """
    Downloads an image file.

    Args:
        url (`str`):
            An `http(s)` URL.
        name (`str`):
            Name of the image in error messages.

    Returns:
        `bytes`: The contents of the file.

    Raises:
        `ValueError`: If the download fails, exceeds `MAX_DOWNLOAD_BYTES` or takes longer than `DOWNLOAD_TIMEOUT`.
    """
    deadline = _Deadline(DOWNLOAD_TIMEOUT)
    try:
        with deadline, _open_response(url, deadline) as response:
            content = _read_body(response, name)
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:  # the third for overlong hosts
        _check_in_time(deadline, name)
        raise ValueError(f"{name} cannot be downloaded: {error}") from error
    _check_in_time(deadline, name)  # without a content length, closing the connection ends the body
    return content


class _Deadline:
    """Closes the connections of a download after a timeout, no matter what they are waiting for."""

    def __init__(self, seconds: float):
        self.is_over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *error) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict) -> None:
        """Records each connection. httpx calls this for every event."""
        if event == "connection.connect_tcp.complete":
            self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self.is_over:
                self._end()

    def _end(self) -> None:
        self.is_over = True
        for connection in self._sockets:
            with suppress(OSError):  # already closed
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # also below TLS


@contextmanager
def _open_response(url: str, deadline: _Deadline) -> Iterator[httpx.Response]:
    with httpx.Client(follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=DOWNLOAD_TIMEOUT) as client:
        # Images are already compressed, and a second compression could hide a large file.
        headers, extensions = {"Accept-Encoding": "identity"}, {"trace": deadline.trace}
        with client.stream("GET", url, headers=headers, extensions=extensions) as response:
            yield response.raise_for_status()


def _read_body(response: httpx.Response, name: str) -> bytes:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _DECODERS:
        raise ValueError(
            f"{name} was sent with the encoding {encoding!r}, which was not requested. Download it yourself."
        )
    decoder = zlib.decompressobj(_DECODERS[encoding]) if _DECODERS[encoding] else None
    content, num_received = bytearray(), 0
    for chunk in response.iter_raw():
        num_received += len(chunk)
        if decoder is not None:
            chunk = _decompress(decoder, chunk, MAX_DOWNLOAD_BYTES + 1 - len(content), name)
        content += chunk
        if max(num_received, len(content)) > MAX_DOWNLOAD_BYTES:
            raise ValueError(
                f"{name} is larger than {MAX_DOWNLOAD_BYTES >> 20} MB. Download it yourself and scale it down."
            )
    return bytes(content)


def _decompress(decoder, chunk: bytes, max_length: int, name: str) -> bytes:
    try:
        return decoder.decompress(chunk, max_length)
    except zlib.error as error:
        raise ValueError(f"{name} cannot be downloaded: its compression is damaged ({error}).") from error


def _check_in_time(deadline: _Deadline, name: str) -> None:
    if deadline.is_over:
        raise ValueError(f"{name} was not downloaded within {DOWNLOAD_TIMEOUT:.0f} seconds. Download it yourself.")

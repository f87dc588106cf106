# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Limits on request bodies of the page, checked before they are parsed."""

import os
import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..tasks.limits import InputLimits


UPLOAD_PATH = "/upload"
SECONDS_BETWEEN_COUNTS = 5.0  # of files on disk
SECONDS_OF_SILENCE = 3600.0  # until an upload has broken off; while it arrives, its file changes all the time
ARRIVING = re.compile(r"tmp[a-z0-9_]{8}")  # `tempfile`'s names, which gradio replaces once a file is complete


class BoundedBodies:
    """
    ASGI middleware that rejects bodies that are too large: JSON, which would block the single thread that serves all
    users, and uploads, for which the total size on disk is also limited.

    Args:
        app (`ASGIApp`):
            The next app.
        limits (`InputLimits`):
            The limits.
        folder (`Path`):
            Folder of uploads. Files of uploads that broke off, which gradio forgets, are deleted.
        tracked (`Callable`, *optional*):
            Returns the paths of the files that gradio keeps or deletes itself.
    """

    def __init__(
        self, app: ASGIApp, limits: InputLimits, folder: Path, tracked: Callable[[], Collection[str]] = tuple
    ):
        self.app = app
        self.limits = limits
        self._stored_bytes = _CountedFolder(folder, tracked)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_upload = scope["path"].endswith(UPLOAD_PATH)
        limit = self.limits.upload_bytes if is_upload else self.limits.json_bytes
        status, refusal = 413, f"the request is larger than {limit >> 20} MB. Send less."
        is_refused = _promised_bytes(scope) > limit
        if is_upload and not is_refused and self._stored_bytes() > self.limits.stored_bytes:
            is_refused, status = True, 507
            refusal = "the page cannot store any more images. Try again in an hour."
        if not is_refused:
            receive_bounded = _bounded(receive, limit, refusal)
            await self.app(scope, _unbroken(receive_bounded) if is_upload else receive_bounded, send)
            return
        await _drop(receive, self.limits.upload_bytes)
        await JSONResponse({"error": refusal}, status)(scope, receive, send)


def _promised_bytes(scope: Scope) -> int:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return max((int(length) for length in lengths if length.isdigit()), default=0)


def _bounded(receive: Receive, limit: int, refusal: str) -> Receive:
    """Counts received bytes, since chunked bodies have no declared length."""
    num_bytes = 0

    async def receive_bounded() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > limit:
            raise HTTPException(413, refusal)
        return message

    return receive_bounded


def _unbroken(receive: Receive) -> Receive:
    """Ends an upload whose client has left by the only error after which gradio deletes its files."""
    is_complete = False

    async def receive_unbroken() -> Message:
        nonlocal is_complete
        message = await receive()
        if message["type"] == "http.disconnect" and not is_complete:
            raise MultiPartException("the upload broke off.")
        is_complete = not message.get("more_body", False)
        return message

    return receive_unbroken


async def _drop(receive: Receive, most: int) -> None:
    """Reads and drops more of the body, since clients only read the error after sending."""
    num_bytes = 0
    while num_bytes <= most:
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if not message.get("more_body"):
            return


class _CountedFolder:
    """Size of a folder's files, cached for a few seconds. Each count first deletes what uploads left behind."""

    def __init__(
        self, folder: Path, tracked: Callable[[], Collection[str]], clock: Callable[[], float] = time.monotonic
    ):
        self._folder, self._tracked, self._clock = folder, tracked, clock
        self._num_bytes, self._counted_at = 0, -SECONDS_BETWEEN_COUNTS

    def __call__(self) -> int:
        if self._clock() - self._counted_at >= SECONDS_BETWEEN_COUNTS:
            _delete_leftovers(self._folder, self._tracked())
            self._num_bytes, self._counted_at = _count_bytes(self._folder), self._clock()
        return self._num_bytes


def _delete_leftovers(folder: Path, tracked: Collection[str]) -> None:
    """Deletes the files of uploads that broke off. Complete ones are in folders of their own."""
    kept, oldest = {os.path.basename(path) for path in tracked}, time.time() - SECONDS_OF_SILENCE
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not ARRIVING.fullmatch(entry.name) or entry.name in kept:
                continue
            with suppress(OSError):  # a file that cannot be deleted still counts
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)


def _count_bytes(folder: Path) -> int:
    num_bytes = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # deleted in the meantime
                num_bytes += os.lstat(os.path.join(root, name)).st_size
    return num_bytes

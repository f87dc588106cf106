# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Request bodies: limits on size and time, for each body and in total, before they are parsed."""

import asyncio
import time
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import FormData
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, bad_requests
from .limits import Limits


Fields = TypeVar("Fields", bound=BaseModel)

DRAINED_BODIES = 4  # multiple of the largest body that is read and dropped, so that a client gets to read the error


class BoundedBodies:
    """
    ASGI middleware that rejects bodies that are too large, too slow, or too many at once.

    Args:
        app (`ASGIApp`):
            The next app.
        limits ([`Limits`]):
            The limits.
    """

    def __init__(self, app: ASGIApp, limits: Limits):
        self.app = app
        self.limits = limits
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(self, receive)
        try:
            await self.app(scope, body.receive, send)
        finally:
            self.held_bytes -= body.size


class _Body:
    """The body of one request while it is received."""

    def __init__(self, bodies: BoundedBodies, receive: Receive):
        self.bodies = bodies
        self.size = 0
        self._receive = receive
        self._deadline = time.monotonic() + bodies.limits.body_seconds
        self._is_complete = False

    async def receive(self) -> Message:
        if self._is_complete:  # only the disconnect follows
            return await self._receive()
        message = await self._next()
        self._count(len(message.get("body", b"")))
        limits = self.bodies.limits
        if self.size > limits.max_body_bytes:
            await self._drain()
            raise ApiError(413, f"the body is larger than {limits.max_body_bytes >> 20} MiB. Send smaller images.")
        if self.bodies.held_bytes > limits.max_held_bytes:
            raise ApiError(503, "the server is holding as many request bodies as it can. Try again later.")
        return message

    async def _next(self) -> Message:
        remaining = self._deadline - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(remaining, 0))
        except asyncio.TimeoutError as error:
            raise ApiError(
                408, f"the body took longer than {self.bodies.limits.body_seconds:g} s to arrive."
            ) from error
        self._is_complete = not message.get("more_body", False)
        return message

    def _count(self, size: int) -> None:
        self.size += size
        self.bodies.held_bytes += size

    async def _drain(self) -> None:
        self._count(-self.size)
        dropped = 0
        while not self._is_complete and dropped < DRAINED_BODIES * self.bodies.limits.max_body_bytes:
            dropped += len((await self._next()).get("body", b""))


async def read_json(request: Request, fields: type[Fields], limits: Limits) -> Fields:
    """
    Reads a JSON body.

    Args:
        request (`Request`):
            The request.
        fields (`type[BaseModel]`):
            Model of the fields.
        limits ([`Limits`]):
            The limits.

    Returns:
        `BaseModel`: the fields.

    Raises:
        ApiError: If the body is not valid JSON or its fields are invalid.
    """
    if _media_type(request) != "application/json":
        raise ApiError(415, "the body must be JSON. Send it with the header content-type: application/json.")
    body = await request.body()
    if sum(map(body.count, (b",", b"[", b"{"))) > limits.max_json_marks:
        raise ApiError(413, f"the body has more than {limits.max_json_marks:,} commas and brackets.")
    with bad_requests():
        return await asyncio.to_thread(fields.model_validate_json, body)


async def read_form(request: Request, limits: Limits) -> FormData:
    """
    Reads a form with files.

    Args:
        request (`Request`):
            The request.
        limits ([`Limits`]):
            The limits.

    Returns:
        `FormData`, which the caller must close.

    Raises:
        ApiError: If the body is not a form, or has too many files.
    """
    if _media_type(request) != "multipart/form-data":
        raise ApiError(415, "the body must be a form. Send it as multipart/form-data.")
    # Allows one file too many, so that the check of images reports it.
    return await request.form(max_files=limits.inputs.pictures + 1, max_part_size=limits.max_body_bytes)


def _media_type(request: Request) -> str:
    """Returns the type of a body without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


__all__ = ["BoundedBodies", "read_form", "read_json"]

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What stands between requests and the model: loading, waiting, leaving and closing."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Any

from fastapi import Request

from .errors import ApiError, internal_error
from .limits import Limits
from .model import ServedModel
from .scheduler import Closed, Full, Job, Result, Scheduler


logger = logging.getLogger(__name__)


class Service:
    """
    One model, and those who wait for it.

    Args:
        load (`Callable`):
            Loads the model, when the server has started.
        limits (`Limits`, *optional*):
            Bounds of requests.
        api_key (`str`, *optional*):
            What clients must know. Nothing by default.
        ready (`Callable`, *optional*):
            Called when the model is loaded, or with an exception when it cannot be.
    """

    def __init__(
        self,
        load: Callable[[], ServedModel],
        limits: Limits | None = None,
        api_key: str | None = None,
        ready: Callable[[ServedModel | Exception], None] | None = None,
    ):
        self.limits = limits or Limits()
        self.api_key = api_key
        self.status = "loading"
        self.scheduler = Scheduler(self.limits.max_waiting, self.limits.max_batch_size, self.limits.batch_seconds)
        self._load = load
        self._ready = ready
        self._model: ServedModel | None = None
        self._preparing = asyncio.Semaphore(self.limits.max_preparing)

    def load(self) -> None:
        """Loads the model."""
        try:
            self._model = outcome = self._load()
            status = "ok"
        except Exception as error:
            status, outcome = "failed", error
        if self.status == "loading":  # it may be closing by now
            self.status = status
        if self._ready is not None:
            self._ready(outcome)

    def close(self) -> None:
        """Takes no more requests, turns away those that wait, and ends those that are being worked on."""
        self.status = "closing"
        self.scheduler.close(self.limits.closing_seconds)

    @property
    def model(self) -> ServedModel:
        """The model, or an [`ApiError`] of status 503 where there is none."""
        if self.status != "ok":
            raise ApiError(503, f"the server is {self.status}.", code=self.status)
        return self._model

    def check_model(self, name: str | None) -> ServedModel:
        """The model that a request names, which need not name one."""
        model = self.model
        if name not in (None, model.name):
            raise ApiError(404, f"there is no model {name!r}, only {model.name!r}.", "model", "model_not_found")
        return model

    async def prepare(self, function: Callable, *arguments: Any) -> Any:
        """Calls what reads images, of which only so many run at once."""
        async with self._preparing:
            return await asyncio.to_thread(function, *arguments)

    async def work(
        self,
        request: Request,
        inputs: Any,
        run: Callable[[Sequence[Job]], Sequence[Any]],
        kind: Hashable,
        size: int = 1,
    ) -> AsyncIterator[Any]:
        """
        Has something worked on.

        Args:
            request (`Request`):
                Whose client is waited with: when it leaves, the work is given up.
            inputs, run, kind, size:
                See [`Job`].

        Yields:
            News of the job as they come, a [`Result`] in the end.

        Raises:
            ApiError: If there is no room, it takes too long, or it fails.
        """
        news: asyncio.Queue = asyncio.Queue()
        loop = asyncio.get_running_loop()
        job = Job(inputs, run, lambda item: loop.call_soon_threadsafe(news.put_nowait, item), kind, size)
        self._submit(job)
        gone = asyncio.create_task(_wait_until_gone(request))
        deadline = time.monotonic() + self.limits.request_seconds
        try:
            while True:
                item = await _next(news, gone, deadline)
                if isinstance(item, Exception):
                    raise _explain(item) from item
                yield item
                if isinstance(item, Result):
                    return
        finally:
            gone.cancel()
            self.scheduler.leave(job)

    def _submit(self, job: Job) -> None:
        try:
            self.scheduler.submit(job)
        except Full as error:
            message = f"{self.limits.max_waiting} requests are waiting already. Try again later."
            raise ApiError(429, message, code="queue_full") from error
        except Closed as error:
            raise _explain(error) from error


async def _next(news: asyncio.Queue, gone: asyncio.Task, deadline: float) -> Any:
    """The next news, unless the client goes away or the time runs out."""
    getter = asyncio.create_task(news.get())
    try:
        await asyncio.wait({getter, gone}, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            return getter.result()
        if gone.done():
            raise ApiError(499, "the client disconnected.")
        raise ApiError(504, "the request timed out.", code="timeout")
    finally:
        getter.cancel()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _explain(error: Exception) -> ApiError:
    if isinstance(error, Closed):
        return ApiError(503, "the server is shutting down.", code="closing")
    if isinstance(error, ValueError):
        return ApiError(400, str(error))
    return internal_error()


__all__ = ["Service"]

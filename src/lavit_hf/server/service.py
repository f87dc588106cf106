# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Connects requests to the model: loading, waiting, disconnecting clients and shutdown."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Any

from fastapi import Request

from ..lavit.input_checks import ContextLengthError
from ..lavit.untrusted_files import shorten
from .errors import MAX_NAME_LENGTH, ApiError, client_left, context_exceeded, internal_error
from .limits import Limits
from .model import ServedModel
from .scheduler import Closed, Full, Job, Result, Scheduler


logger = logging.getLogger(__name__)


class Service:
    """
    A model and the requests to it.

    Args:
        load (`Callable`):
            Loads the model after the server has started.
        limits (`Limits`, *optional*):
            Limits for requests.
        api_key (`str`, *optional*):
            API key that clients must send. By default, none is required.
        ready (`Callable`, *optional*):
            Called with the loaded model, or with an exception if it cannot be loaded.
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
        if self.status == "loading":  # it may have been closed in the meantime
            self.status = status
        if self._ready is not None:
            self._ready(outcome)

    def close(self) -> None:
        """Accepts no more requests, rejects those that wait, and ends those that are running."""
        self.status = "closing"
        self.scheduler.close(self.limits.closing_seconds)

    @property
    def model(self) -> ServedModel:
        """The model. Raises an [`ApiError`] with status 503 if it is not available."""
        if self.status != "ok":
            raise ApiError(503, f"the server is {self.status}.", code=self.status)
        return self._model

    def check_model(self, name: str | None) -> ServedModel:
        """Returns the model requested by name, or the served model without a name."""
        model = self.model
        if name not in (None, model.name):
            shown = shorten(name, MAX_NAME_LENGTH)
            raise ApiError(404, f"there is no model {shown!r}, only {model.name!r}.", "model", "model_not_found")
        return model

    async def prepare(self, function: Callable, *arguments: Any) -> Any:
        """Calls a function that reads images. The number of concurrent calls is limited."""
        async with self._preparing:
            return await asyncio.to_thread(function, *arguments)

    async def work(
        self,
        request: Request,
        inputs: Any,
        run: Callable[[Sequence[Job]], Sequence[Any]],
        kind: Hashable,
        size: int = 1,
        *,
        prompt_field: str,
    ) -> AsyncIterator[Any]:
        """
        Runs a job.

        Args:
            request (`Request`):
                The request. If its client disconnects, the job is abandoned.
            inputs, run, kind, size:
                See [`Job`].
            prompt_field (`str`):
                Name of the prompt in the request, for errors.

        Yields:
            Updates of the job as they arrive, and finally a [`Result`].

        Raises:
            ApiError: If too many requests are waiting, the job takes too long, or it fails.
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
                    raise _explain(item, prompt_field) from item
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
            raise _closing() from error


async def _next(news: asyncio.Queue, gone: asyncio.Task, deadline: float) -> Any:
    """Returns the next update. Raises an [`ApiError`] if the client disconnects or the deadline passes."""
    getter = asyncio.create_task(news.get())
    try:
        await asyncio.wait({getter, gone}, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if getter.done():
            return getter.result()
        if gone.done():
            raise client_left()
        raise ApiError(504, "the request timed out.", code="timeout")
    finally:
        getter.cancel()


async def _wait_until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _explain(error: Exception, prompt_field: str) -> ApiError:
    if isinstance(error, Closed):
        return _closing()
    if isinstance(error, ContextLengthError):
        return context_exceeded(str(error), prompt_field)
    if isinstance(error, ValueError):
        return ApiError(400, str(error))
    return internal_error()


def _closing() -> ApiError:
    return ApiError(503, "the server is shutting down.", code="closing")


__all__ = ["Service"]

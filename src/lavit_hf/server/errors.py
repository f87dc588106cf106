# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Errors in the format that OpenAI's clients expect."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from jinja2 import TemplateError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..lavit.untrusted_files import shorten
from ..tasks.failures import Failure
from ..tasks.limits import TooLarge
from ..tasks.printing import one_line


RETRY_SECONDS = 1  # Retry-After for clients if the server is busy
MAX_NAME_LENGTH = 100  # in characters; clients choose the names of fields, paths and models


class ApiError(Exception):
    """
    An error that is sent to the client.

    Args:
        status (`int`):
            The HTTP status.
        message (`str`):
            What is wrong, and how to fix it.
        param (`str`, *optional*):
            The affected field. A long name is shortened.
        code (`str`, *optional*):
            A machine-readable code.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status = status
        self.message = one_line(message)
        self.param = None if param is None else shorten(param, MAX_NAME_LENGTH)
        self.code = code

    def as_dict(self) -> dict:
        """Returns the body of the response."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def as_response(self) -> JSONResponse:
        """Returns the response."""
        headers = {"Retry-After": str(RETRY_SECONDS)} if self.status in (429, 503) else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.as_dict(), self.status, headers)


def client_left() -> ApiError:
    """Creates the error for a client that has disconnected."""
    return ApiError(499, "the client disconnected.")


def context_exceeded(message: str, param: str) -> ApiError:
    """Creates the error for a prompt that is too long for the model."""
    return ApiError(400, message, param, "context_length_exceeded")


def internal_error() -> ApiError:
    """Creates the error for an internal failure, whose details are only in the log."""
    return ApiError(500, "the server failed on this request. Its log says why.")


@contextmanager
def bad_requests(param: str | None = None) -> Iterator[None]:
    """Converts the package's errors for bad input to an [`ApiError`], with status 413 if it is too large, else 400."""
    try:
        yield
    except ValidationError as error:
        raise _explain(error) from error
    except TooLarge as error:
        raise ApiError(413, str(error), param) from error
    except (Failure, ValueError, TypeError, TemplateError) as error:
        raise ApiError(400, str(error), param) from error


def install_error_handlers(app: FastAPI) -> None:
    """Makes all errors of an app use the same format."""

    @app.exception_handler(ApiError)
    async def _(request: Request, error: ApiError) -> JSONResponse:
        return error.as_response()

    @app.exception_handler(ClientDisconnect)
    async def _(request: Request, error: ClientDisconnect) -> JSONResponse:
        return client_left().as_response()

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{request.method} {shorten(request.url.path, MAX_NAME_LENGTH)}: {error.detail}"
        return ApiError(error.status_code, what).as_response()

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> JSONResponse:
        return internal_error().as_response()


def _explain(error: ValidationError) -> ApiError:
    """Creates the error for the first invalid field of a request."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    field = shorten(".".join(str(step) for step in first["loc"]), MAX_NAME_LENGTH) or None
    reason = first["msg"].removeprefix("Value error, ")  # pydantic's words for our own errors
    message = f"{field}: {reason}" if field else reason
    more = f" (and {len(others)} more)" if others else ""
    return ApiError(400, f"{message}{more}", field)


__all__ = [
    "MAX_NAME_LENGTH",
    "ApiError",
    "bad_requests",
    "client_left",
    "context_exceeded",
    "install_error_handlers",
    "internal_error",
]

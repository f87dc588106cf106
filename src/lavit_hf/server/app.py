# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The routes of the server."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from PIL import Image
from starlette.datastructures import FormData, UploadFile

from . import chat, painting
from .bodies import BoundedBodies, read_form, read_json
from .errors import ApiError, bad_requests, install_error_handlers
from .fields import ChatFields, PaintFields
from .limits import Limits
from .pictures import RequestPictures
from .replies import STREAM_END, ChatReplies, as_event
from .scheduler import Result
from .service import Service


IMAGE_FIELDS = ("image", "image[]")


def build_app(service: Service) -> FastAPI:
    """
    Creates the server as an ASGI app, which starts loading the model on startup.

    Args:
        service ([`Service`]):
            The service that handles requests.

    Returns:
        `FastAPI`.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.load, name="lavit-load", daemon=True).start()
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None)  # without descriptions, which would need no key
    app.state.service = service
    app.add_middleware(BoundedBodies, limits=service.limits)
    install_error_handlers(app)
    app.include_router(open_routes)
    app.include_router(routes)
    return app


def _get_service(request: Request) -> Service:
    return request.app.state.service


def _check_key(request: Request) -> None:
    key = _get_service(request).api_key
    if key is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), key.encode()):
        raise ApiError(
            401, "the API key is missing or wrong. Send it as `Authorization: Bearer KEY`.", code="invalid_api_key"
        )


ServiceOf = Annotated[Service, Depends(_get_service)]
open_routes = APIRouter()
routes = APIRouter(prefix="/v1", dependencies=[Depends(_check_key)])


@open_routes.get("/health")
async def health(service: ServiceOf) -> JSONResponse:
    """Returns the status of the server and the numbers of waiting and running requests."""
    load = {"waiting": service.scheduler.num_waiting, "running": service.scheduler.num_running}
    return JSONResponse({"status": service.status, **load}, 200 if service.status == "ok" else 503)


@routes.get("/models")
async def list_models(service: ServiceOf) -> dict[str, Any]:
    """Lists the served model."""
    return {"object": "list", "data": [_describe(service)]}


@routes.get("/models/{name:path}")
async def retrieve_model(name: str, service: ServiceOf) -> dict[str, Any]:
    """Returns the model with a name."""
    service.check_model(name)
    return _describe(service)


@routes.post("/chat/completions")
async def complete_chat(request: Request, service: ServiceOf) -> Response:
    """Replies to a chat with texts and images."""
    _ = service.model
    fields = await read_json(request, ChatFields, service.limits)
    model = service.check_model(fields.model)
    inputs = await service.prepare(chat.prepare_chat, fields, model, service.limits)
    run, kind = partial(chat.write_replies, model=model), chat.find_kind(inputs)
    news = service.work(request, inputs, run, kind, prompt_field="messages")
    replies = ChatReplies(model.name)
    if not fields.stream:
        return JSONResponse(replies.whole(await _result(news)))
    with_usage = fields.stream_options is not None and fields.stream_options.include_usage
    first = await anext(news)  # so that rejected requests get an error status
    events = _stream(first, news, replies, with_usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


@routes.post("/images/generations")
async def generate_images(request: Request, service: ServiceOf) -> dict[str, Any]:
    """Generates images from a text."""
    _ = service.model
    fields = await read_json(request, PaintFields, service.limits)
    return await _paint(request, service, fields, [])


@routes.post("/images/edits")
async def edit_images(request: Request, service: ServiceOf) -> dict[str, Any]:
    """Generates images from text and images. `<image>` in the text marks the place of each image."""
    _ = service.model
    form = await read_form(request, service.limits)
    try:
        files = [await file.read() for name in IMAGE_FIELDS for file in form.getlist(name) if _is_file(name, file)]
        with bad_requests():
            fields = PaintFields.model_validate(_other_fields(form))
    finally:
        await form.close()
    if not files:
        raise ApiError(400, "there is no image. Send files as image, or use /v1/images/generations.", "image")
    images = await service.prepare(_read_all, files, service.limits)
    return await _paint(request, service, fields, images)


def _describe(service: Service) -> dict[str, Any]:
    return {"id": service.model.name, "object": "model", "created": 0, "owned_by": "lavit_hf"}


async def _result(news: AsyncIterator[Any]) -> Any:
    async with aclosing(news):
        return [item async for item in news][-1].value


async def _stream(first: Any, news: AsyncIterator[Any], replies: ChatReplies, with_usage: bool) -> AsyncIterator[str]:
    """Yields server-sent events from a growing text."""
    yield as_event(replies.delta(role="assistant", content=""))
    sent = ""
    try:
        async for item in _chain(first, news):
            text = item.value.text if isinstance(item, Result) else item
            if len(text) > len(sent):
                yield as_event(replies.delta(content=text[len(sent) :]))
                sent = text
    except ApiError as error:
        yield as_event(error.as_dict())
        return
    finally:
        await news.aclose()
    yield as_event(replies.delta(item.value.finish_reason))
    if with_usage:
        yield as_event(replies.usage(item.value))
    yield STREAM_END


async def _chain(first: Any, others: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield first
    async for item in others:
        yield item


async def _paint(request: Request, service: Service, fields: PaintFields, images: list[Image.Image]) -> dict[str, Any]:
    model = service.check_model(fields.model)
    inputs = await service.prepare(painting.prepare_painting, fields, images, model, service.limits)
    run, kind = partial(painting.paint, model=model), painting.find_kind(inputs)
    news = service.work(request, inputs, run, kind, inputs.num_rows, prompt_field="prompt")
    pictures = await _result(news)
    data = await asyncio.to_thread(lambda: [picture.as_dict(fields.output_format) for picture in pictures])
    return {"created": int(time.time()), "data": data}


def _is_file(name: str, value: UploadFile | str) -> bool:
    if isinstance(value, str):
        raise ApiError(400, f"{name} is text. Send an image file.", name)
    return True


def _other_fields(form: FormData) -> dict[str, str]:
    if "mask" in form:
        raise ApiError(400, "LaVIT only draws whole images. Leave the mask out.", "mask")
    return {name: value for name, value in form.items() if name not in IMAGE_FIELDS}


def _read_all(files: list[bytes], limits: Limits) -> list[Image.Image]:
    pictures = RequestPictures(limits)
    return [pictures.read(file, f"image {number}") for number, file in enumerate(files)]


__all__ = ["build_app"]

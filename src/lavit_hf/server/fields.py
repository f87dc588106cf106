# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Fields of requests, in the format of OpenAI's API. What the server does not do is rejected, not ignored. Fields that
would change no result are accepted, since clients send them to every server.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
MAX_SEED = 2**63 - 1


class Fields(BaseModel):
    """Base class of all fields. An unknown field that is null asks for nothing, so it is not rejected."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, fields: Any) -> Any:
        # OpenAI's client sends such fields when a reply is passed back as a message.
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None or name in cls.model_fields}


class TextPart(Fields):
    """Text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(Fields):
    """URL of an image. `detail` is ignored, as the model reads all images at the same size."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Fields):
    """An image of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Fields):
    """A message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: list[Part]
    name: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _as_parts(cls, content: Any) -> Any:
        return [{"type": "text", "text": content}] if isinstance(content, str) else content


class StreamOptions(Fields):
    """Additional content of a stream."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ResponseFormat(Fields):
    """Format of a reply, which is always text."""

    type: Literal["text"]


class ChatFields(Fields):
    """
    Body of `/v1/chat/completions`. The fields from `user` on change nothing. Of the last ones, only the defaults are
    accepted, which some clients send.
    """

    messages: list[Message] = Field(min_length=1)
    model: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None  # there are no tools
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    response_format: ResponseFormat | None = None
    frequency_penalty: float | None = Field(None, ge=0, le=0)
    presence_penalty: float | None = Field(None, ge=0, le=0)

    @field_validator("stream_options")
    @classmethod
    def _check_stream(cls, options: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if options is not None and not info.data.get("stream"):
            raise ValueError("only has an effect together with stream")
        return options

    @field_validator("stop")
    @classmethod
    def _check_stop(cls, stop: str | list[str] | None) -> list[str]:
        stops = [stop] if isinstance(stop, str) else stop or []
        if len(stops) > 4 or not all(0 < len(text) <= 100 for text in stops):
            raise ValueError("pass up to 4 texts of 1 to 100 characters")
        return stops

    @property
    def max_new_tokens(self) -> int | None:
        """Requested maximum length of the reply in tokens."""
        return self.max_completion_tokens or self.max_tokens


class PaintFields(Fields):
    """
    Body of `/v1/images/generations` and, with files, of `/v1/images/edits`. Of the fields from `quality` on, only what
    the model does anyway is accepted. The last four fields are not in OpenAI's API.
    """

    prompt: str
    model: str | None = None
    n: int | None = Field(None, ge=1)
    size: str | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    quality: Literal["auto", "standard"] | None = None
    style: Literal["vivid"] | None = None  # the default
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto"] | None = None
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    negative_prompt: str | None = None
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=1, le=100)

    @field_validator("size")
    @classmethod
    def _check_size(cls, size: str | None) -> str | None:
        if size not in (None, "auto") and not SIZE.fullmatch(size):
            raise ValueError(f"must be auto or look like 512x512, got {size[:20]!r}")
        return size

    @property
    def sides(self) -> dict[str, int]:
        """Width and height in pixels; empty if the model decides."""
        if self.size in (None, "auto"):
            return {}
        width, height = map(int, SIZE.fullmatch(self.size).groups())
        return {"width": width, "height": height}

    @property
    def painting(self) -> dict[str, Any]:
        """Arguments of the pipeline besides the prompt."""
        settings = {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}
        return self.sides | {name: value for name, value in settings.items() if value is not None}


__all__ = ["ChatFields", "ImagePart", "Message", "PaintFields", "TextPart"]

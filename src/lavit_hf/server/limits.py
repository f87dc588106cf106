# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What a request may ask for: every bound of the server is set here."""

from dataclasses import dataclass, field

from ..tasks.limits import InputLimits


@dataclass(frozen=True)
class Limits:
    """
    Bounds of requests, and of what is held of them at once.

    Args:
        inputs (`InputLimits`, *optional*):
            Texts and images of a request, as on the page.
        max_body_bytes (`int`, *optional*, defaults to 32 MiB):
            Largest body of a request, JSON or uploads.
        max_held_bytes (`int`, *optional*, defaults to 256 MiB):
            Bodies of all requests together.
        body_seconds (`float`, *optional*, defaults to 30.0):
            How long a body may take to arrive, in seconds.
        max_json_marks (`int`, *optional*, defaults to 200 000):
            Most commas and brackets in a JSON body, so that none takes long to parse.
        max_messages (`int`, *optional*, defaults to 256):
            Most messages of a chat, and most parts of a message.
        max_new_tokens (`int`, *optional*, defaults to 512):
            Longest reply, in tokens, whatever a request asks for.
        max_pictures (`int`, *optional*, defaults to 4):
            Most images to paint for a request.
        max_side (`int`, *optional*, defaults to 2048):
            Longest side of an image to paint, in pixels.
        max_steps (`int`, *optional*, defaults to 200):
            Most denoising steps.
        remote_images (`bool`, *optional*, defaults to `False`):
            Whether images may be named by `http(s)` URLs, which the server downloads.
        max_preparing (`int`, *optional*, defaults to 4):
            How many requests have their images read at once.
        max_waiting (`int`, *optional*, defaults to 64):
            Most requests that wait for the model. Further ones are told to come again.
        max_batch_size (`int`, *optional*, defaults to 16):
            Most prompts, or images to paint, that the model gets at once.
        batch_seconds (`float`, *optional*, defaults to 0.01):
            How long the first request of a batch waits for others, in seconds.
        request_seconds (`float`, *optional*, defaults to 300.0):
            How long a request may wait and be worked on, in seconds.
        closing_seconds (`float`, *optional*, defaults to 10.0):
            How long what is being worked on may take when the server closes, in seconds.
    """

    inputs: InputLimits = field(default_factory=InputLimits)
    max_body_bytes: int = 32 * 2**20
    max_held_bytes: int = 256 * 2**20
    body_seconds: float = 30.0
    max_json_marks: int = 200_000
    max_messages: int = 256
    max_new_tokens: int = 512
    max_pictures: int = 4
    max_side: int = 2048
    max_steps: int = 200
    remote_images: bool = False
    max_preparing: int = 4
    max_waiting: int = 64
    max_batch_size: int = 16
    batch_seconds: float = 0.01
    request_seconds: float = 300.0
    closing_seconds: float = 10.0


__all__ = ["Limits"]

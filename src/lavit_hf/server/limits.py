# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""All limits of the server."""

from dataclasses import dataclass, field

from ..tasks.limits import InputLimits


@dataclass(frozen=True)
class Limits:
    """
    Limits for single requests and for all requests together.

    Args:
        inputs (`InputLimits`, *optional*):
            Limits for texts and images of a request, as on the page.
        max_body_bytes (`int`, *optional*, defaults to 32 MiB):
            Maximum size of a request body, JSON or uploads.
        max_held_bytes (`int`, *optional*, defaults to 256 MiB):
            Maximum total size of the bodies of all requests.
        body_seconds (`float`, *optional*, defaults to 30.0):
            Maximum time in seconds for receiving a body.
        max_json_marks (`int`, *optional*, defaults to 200 000):
            Maximum number of commas and brackets in a JSON body, which limits the time to parse it.
        max_messages (`int`, *optional*, defaults to 256):
            Maximum number of messages in a chat, and of parts in total.
        max_new_tokens (`int`, *optional*, defaults to 512):
            Maximum length of a reply in tokens.
        max_pictures (`int`, *optional*, defaults to 4):
            Maximum number of images to generate per request.
        max_side (`int`, *optional*, defaults to 2048):
            Maximum side of an image to generate, in pixels.
        max_batch_pixels (`int`, *optional*, defaults to 2048 x 2048):
            Maximum number of pixels of the images that are generated in one batch, and so of a single image. Most of
            the memory for images grows with it. Larger requests are generated in several batches.
        max_steps (`int`, *optional*, defaults to 200):
            Maximum number of denoising steps.
        remote_images (`bool`, *optional*, defaults to `False`):
            Whether to allow `http(s)` URLs of images, which the server downloads.
        max_preparing (`int`, *optional*, defaults to 4):
            Maximum number of requests whose images are read at once.
        max_waiting (`int`, *optional*, defaults to 64):
            Maximum number of requests that wait for the model. Further requests are told to try again later.
        max_batch_size (`int`, *optional*, defaults to 16):
            Maximum number of prompts, or of images to generate, per batch.
        batch_seconds (`float`, *optional*, defaults to 0.01):
            Time in seconds that the first request of a batch waits for others.
        request_seconds (`float`, *optional*, defaults to 300.0):
            Maximum time in seconds for a request, including waiting.
        closing_seconds (`float`, *optional*, defaults to 10.0):
            Maximum time in seconds for running requests when the server shuts down.
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
    max_batch_pixels: int = 2048 * 2048
    max_steps: int = 200
    remote_images: bool = False
    max_preparing: int = 4
    max_waiting: int = 64
    max_batch_size: int = 16
    batch_seconds: float = 0.01
    request_seconds: float = 300.0
    closing_seconds: float = 10.0


__all__ = ["Limits"]

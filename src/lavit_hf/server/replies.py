# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Responses in the format of OpenAI's API."""

import json
import secrets
import time
from typing import Any

from .chat import Reply


STREAM_END = "data: [DONE]\n\n"


class ChatReplies:
    """
    Creates the responses to one request.

    Args:
        model (`str`):
            Name of the model.
    """

    def __init__(self, model: str):
        self.head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, reply: Reply) -> dict[str, Any]:
        """Returns the response without streaming."""
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
        return self.head | {"object": "chat.completion", "choices": [choice], "usage": count_usage(reply)}

    def delta(self, finish_reason: str | None = None, **delta: str) -> dict[str, Any]:
        """Returns a part of a streamed response."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return self.head | {"object": "chat.completion.chunk", "choices": [choice]}

    def usage(self, reply: Reply) -> dict[str, Any]:
        """Returns the last part of a stream, with token counts."""
        return self.head | {"object": "chat.completion.chunk", "choices": [], "usage": count_usage(reply)}


def count_usage(reply: Reply) -> dict[str, int]:
    """Returns the numbers of prompt and generated tokens."""
    return {
        "prompt_tokens": reply.num_prompt_tokens,
        "completion_tokens": reply.num_new_tokens,
        "total_tokens": reply.num_prompt_tokens + reply.num_new_tokens,
    }


def as_event(content: dict[str, Any]) -> str:
    """Formats a server-sent event."""
    return f"data: {json.dumps(content)}\n\n"


__all__ = ["STREAM_END", "ChatReplies", "as_event"]

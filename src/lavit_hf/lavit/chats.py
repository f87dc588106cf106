# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Chats: the template that turns them into prompts as in LaVIT's training, and checks of their format."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from .prompt_text import escape_placeholders, remove_escapes


ROLES = ("system", "user", "assistant")
IMAGE_KEYS = ("image", "url", "path", "base64")  # keys where transformers looks for the image of a part

# SHA-256 of the template in older saved processors, which didn't format questions.
OUTDATED_TEMPLATE = "2a9f9b4e38019bda44d3a9fc8c69f06c081cb22ebcf03595077babc8644eac8d"

CHAT_TEMPLATE = """\
{#- A user's turn with text is a question, its images in front of it unless they stand between texts. One that an image
    answers, as the last one in image mode, is what to paint. One of images alone asks for a caption. An answer ends as
    texts do in training. `add_generation_prompt` adds nothing: a question ends with what asks for the answer. -#}
{%- set placeholder = image_token | default(IMAGE_TOKEN) -%}
{%- set wording = question_template | default(QUESTION_TEMPLATE) -%}
{%- set state = namespace(follows_text=false) -%}
{%- for message in messages -%}
    {%- set content = message['content'] | default([], true) -%}
    {%- set parts = [{'type': 'text', 'text': content}] if content is string else content -%}
    {%- set turn = namespace(plain='', images='', text='', later_images='', is_mixed=false) -%}
    {%- for part in parts -%}
        {%- if part['type'] == 'text' -%}
            {%- set turn.plain = turn.plain ~ part['text'] -%}
            {%- set turn.is_mixed = turn.is_mixed or turn.later_images != '' -%}
            {%- set turn.text = turn.text ~ turn.later_images ~ part['text'] -%}
            {%- set turn.later_images = '' -%}
        {%- elif part['type'] == 'image' -%}
            {%- set turn.plain = turn.plain ~ placeholder -%}
            {%- if turn.text | trim -%}
                {%- set turn.later_images = turn.later_images ~ placeholder -%}
            {%- else -%}
                {%- set turn.images = turn.images ~ placeholder -%}
            {%- endif -%}
        {%- else -%}
            {{- raise_exception("LaVIT reads parts of type 'text' and 'image', not '" ~ part['type'] ~ "'.") -}}
        {%- endif -%}
    {%- endfor -%}
    {%- if turn.is_mixed -%}
        {%- set turn.text = turn.text ~ turn.later_images -%}
    {%- else -%}
        {%- set turn.images = turn.images ~ turn.later_images -%}
    {%- endif -%}
    {%- set has_text = turn.text | trim != '' -%}
    {%- if message['role'] == 'user' -%}
        {%- set next = loop.nextitem | default({}) -%}
        {%- set reply = next['content'] | default([], true) if next['role'] == 'assistant' else [] -%}
        {%- if loop.last -%}
            {%- set is_painted = generation_mode | default('text') == 'image' -%}
        {%- else -%}
            {%- set painted = [] if reply is string else reply | selectattr('type', 'equalto', 'image') | list -%}
            {%- set is_painted = painted != [] -%}
        {%- endif -%}
        {%- if state.follows_text and turn.plain | trim -%}{{- '\\n' -}}{%- endif -%}
        {%- if is_painted -%}
            {{- turn.plain | trim -}}
        {%- else -%}
            {{- turn.images -}}
            {%- if has_text -%}{{- wording | replace('{}', turn.text | trim) -}}{%- endif -%}
        {%- endif -%}
        {%- set state.follows_text = has_text or (state.follows_text and not turn.images) -%}
    {%- elif message['role'] == 'assistant' -%}
        {%- if state.follows_text and turn.plain | trim -%}{{- ' ' -}}{%- endif -%}
        {%- generation -%}
            {{- turn.plain | trim -}}
            {%- if has_text -%}{{- eos_token -}}{%- endif -%}
        {%- endgeneration -%}
        {%- set state.follows_text = state.follows_text and not turn.plain | trim -%}
    {%- elif message['role'] == 'system' -%}
        {%- if turn.plain | trim -%}{{- turn.plain | trim ~ '\\n' -}}{%- endif -%}
        {%- set state.follows_text = false -%}
    {%- else -%}
        {{- raise_exception("LaVIT knows the roles system, user and assistant, not '" ~ message['role'] ~ "'.") -}}
    {%- endif -%}
{%- endfor -%}
"""


def make_chat_template(image_token: str, question_template: str) -> str:
    """
    Creates the chat template. If the template is rendered with the variables `image_token` and `question_template`,
    these override the arguments of this function. `generation_mode="image"` creates a prompt for an image.

    Args:
        image_token (`str`):
            The image placeholder.
        question_template (`str`):
            How to phrase questions; `{}` is replaced by the question.

    Returns:
        `str`: A Jinja template.
    """
    settings = {"IMAGE_TOKEN": image_token, "QUESTION_TEMPLATE": question_template}
    template = CHAT_TEMPLATE
    for name, value in settings.items():
        template = template.replace(f"default({name})", f"default({json.dumps(value, ensure_ascii=False)})")
    return template


def is_outdated(chat_template: str, image_token: str) -> bool:
    """Whether a template in a repo is just the former default, not a deliberate setting."""
    common = chat_template.replace(image_token, "<image>")
    return hashlib.sha256(common.encode()).hexdigest() == OUTDATED_TEMPLATE


def check_messages(chats: Any) -> None:
    """
    Raises a `ValueError` if the input contains no messages or isn't a chat.

    Args:
        chats (`list[dict]` or `list[list[dict]]`):
            A chat or a batch of chats.
    """
    is_chat = chats is None or hasattr(chats, "messages") or isinstance(chats, list | tuple)
    if not is_chat or (isinstance(chats, list | tuple) and any(isinstance(message, str) for message in chats)):
        raise ValueError(
            "A chat is a list of messages such as {'role': 'user', 'content': ...}. For plain text, call the "
            "processor."
        )
    if chats is None or (isinstance(chats, list | tuple) and not chats):
        raise ValueError("There is no chat. Pass a list of messages, or a list of such lists.")


def check_chat(number: int, messages: list[dict]) -> None:
    """
    Raises a `ValueError` that names the message if a chat has no messages, an unknown role or invalid parts.

    Args:
        number (`int`):
            Index of the chat in a batch.
        messages (`list[dict]`):
            The messages of the chat.
    """
    if not messages:
        raise ValueError(f"Chat {number} has no messages.")
    for position, message in enumerate(messages):
        content, name = message.get("content") or [], f"message {position} of chat {number}"
        if message.get("role") not in ROLES:
            raise ValueError(
                f"The role of {name} is {message.get('role')!r}, but LaVIT only knows the roles "
                f"{', '.join(map(repr, ROLES))}."
            )
        if not isinstance(content, str | list | tuple):
            raise ValueError(
                f"The content of {name} is of type {type(content).__name__}. Pass a string or a list of parts."
            )
        for part in [] if isinstance(content, str) else content:
            _check_part(part, name)


def _check_part(part: Any, name: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind is None:
        raise ValueError(
            f"A part of {name} has no 'type'. Pass {{'type': 'text', 'text': ...}} or {{'type': 'image', ...}}."
        )
    if kind not in ("text", "image"):
        raise ValueError(f"LaVIT reads parts of type 'text' and 'image', not {kind!r} as in {name}.")
    if kind == "text" and not isinstance(part.get("text"), str):
        raise ValueError(f"A part of type 'text' of {name} has no 'text', or its 'text' is not a string.")


def check_images(number: int, messages: list[dict]) -> None:
    """
    Raises a `ValueError` that names the message if a part of type `"image"` doesn't contain exactly one image.

    Args:
        number (`int`):
            Index of the chat in a batch.
        messages (`list[dict]`):
            The messages of the chat, already checked by [`check_chat`].
    """
    for position, message in enumerate(messages):
        for part in _parts(message, "image"):
            given = [key for key in IMAGE_KEYS if key in part]
            if len(given) != 1 or part[given[0]] is None:
                found = "no image" if len(given) < 2 else f"several images ({', '.join(given)})"
                raise ValueError(
                    f"A part of type 'image' of message {position} of chat {number} holds {found}. Pass one, as "
                    f"{', '.join(map(repr, IMAGE_KEYS))}."
                )


def escape_chat(messages: list[dict], image_token: str) -> list[dict]:
    """
    Escapes the texts of a chat, so that the processor reads them as plain text.

    Args:
        messages (`list[dict]`):
            The messages. They aren't modified.
        image_token (`str`):
            The image placeholder, which may occur in a text.

    Returns:
        `list[dict]`: The same messages with escaped placeholders in their texts.
    """

    def escape(text: str) -> str:
        return escape_placeholders(remove_escapes(text), image_token)

    escaped = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            message = message | {"content": escape(content)}
        elif content:
            parts = [part | {"text": escape(part["text"])} if part["type"] == "text" else part for part in content]
            message = message | {"content": parts}
        escaped.append(message)
    return escaped


def _parts(message: dict, kind: str) -> Iterator[dict]:
    content = message.get("content") or []
    return iter(()) if isinstance(content, str) else (part for part in content if part["type"] == kind)


__all__ = [
    "check_chat",
    "check_images",
    "check_messages",
    "escape_chat",
    "is_outdated",
    "make_chat_template",
]

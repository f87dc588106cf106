# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Splits the text of a prompt into image placeholders, plain text, and control tokens written by a chat template."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


# Like a backslash in regular expressions, it changes the meaning of what follows: a placeholder becomes plain text,
# and the text of a control token becomes the token. It is a private use character, next to those that transformers
# uses to mark control tokens.
ESCAPE = "\U000f0002"


@dataclass(frozen=True)
class Run:
    """
    A part of a prompt that is tokenized separately.

    Args:
        text (`str`):
            The text, or the name of a control token.
        places (`Sequence[int]`):
            Positions of its characters in the prompt, and the end of the last one.
        is_control (`bool`, *optional*, defaults to `False`):
            Whether it is a single control token.
    """

    text: str
    places: Sequence[int]
    is_control: bool = False

    def locate(self, span: tuple[int, int]) -> tuple[int, int]:
        """Converts a span of `text` to a span of the prompt."""
        start, end = span
        return self.places[start], self.places[end - 1] + 1 if end > start else self.places[start]


def remove_escapes(text: str) -> str:
    """Removes escapes from a user's text."""
    return text.replace(ESCAPE, "")


def escape_placeholders(text: str, image_token: str) -> str:
    """Escapes placeholders, so that they are read as text."""
    return text.replace(image_token, ESCAPE + image_token)


def count_placeholders(text: str, image_token: str) -> int:
    """Counts the unescaped image placeholders in a prompt."""
    return len(re.findall(_unescaped(image_token), text))


def split_prompt(text: str, image_token: str, control_tokens: Sequence[str] = ()) -> list[list[Run]]:
    """
    Splits a prompt.

    Args:
        text (`str`):
            The prompt.
        image_token (`str`):
            The image placeholder, which includes a space on either side.
        control_tokens (`Sequence[str]`, *optional*):
            Texts that are read as control tokens if escaped.

    Returns:
        `list[list[Run]]`: The runs of each piece between placeholders. There is one more piece than placeholders.
    """
    pieces, start = [], 0
    for placeholder in re.finditer(f" ?{_unescaped(image_token)} ?", text):
        pieces.append(_split_piece(text, start, placeholder.start(), image_token, control_tokens))
        start = placeholder.end()
    return [*pieces, _split_piece(text, start, len(text), image_token, control_tokens)]


def _unescaped(image_token: str) -> str:
    return f"(?<!{ESCAPE}){re.escape(image_token)}"


def _split_piece(text: str, start: int, end: int, image_token: str, control_tokens: Sequence[str]) -> list[Run]:
    runs = []
    names = "|".join(map(re.escape, control_tokens))
    for control in re.compile(f"{ESCAPE}({names})").finditer(text, start, end) if names else ():
        runs.append(_unescape(text, start, control.start(), image_token))
        runs.append(Run(control[1], control.span(), is_control=True))
        start = control.end()
    runs.append(_unescape(text, start, end, image_token))
    return [run for run in runs if run.text]


def _unescape(text: str, start: int, end: int, image_token: str) -> Run:
    escapes = re.compile(ESCAPE + re.escape(image_token)).finditer(text, start, end)
    left_out = {escape.start() for escape in escapes}
    if not left_out:
        return Run(text[start:end], range(start, end + 1))
    places = [place for place in range(start, end) if place not in left_out]
    return Run("".join(text[place] for place in places), [*places, end])


__all__ = ["ESCAPE", "Run", "count_placeholders", "escape_placeholders", "remove_escapes", "split_prompt"]

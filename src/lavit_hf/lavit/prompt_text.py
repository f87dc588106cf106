# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What stands in the text of a prompt: placeholders of images, text, and control tokens that a chat template wrote."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


# As a backslash in a regular expression, it turns what stands behind it into what it is not by itself: a placeholder
# into text, a control token that is spelled out, which is text, into the token. A character of the private use area
# beside those by which transformers marks control tokens.
ESCAPE = "\U000f0002"


@dataclass(frozen=True)
class Run:
    """
    A stretch of a prompt that is tokenized by itself.

    Args:
        text (`str`):
            What it says, or the name of a control token.
        places (`Sequence[int]`):
            Where in the prompt its characters stand, and where the last one ends.
        is_control (`bool`, *optional*, defaults to `False`):
            Whether it is one control token.
    """

    text: str
    places: Sequence[int]
    is_control: bool = False

    def locate(self, span: tuple[int, int]) -> tuple[int, int]:
        """Where a span of `text` is in the prompt."""
        start, end = span
        return self.places[start], self.places[end - 1] + 1 if end > start else self.places[start]


def remove_escapes(text: str) -> str:
    """A text of a user's, who is not to write escapes."""
    return text.replace(ESCAPE, "")


def escape_placeholders(text: str, image_token: str) -> str:
    """A text in which no placeholder is read."""
    return text.replace(image_token, ESCAPE + image_token)


def count_placeholders(text: str, image_token: str) -> int:
    """How many images a prompt has places for."""
    return len(re.findall(_unescaped(image_token), text))


def split_prompt(text: str, image_token: str, control_tokens: Sequence[str] = ()) -> list[list[Run]]:
    """
    Takes a prompt apart.

    Args:
        text (`str`):
            The prompt.
        image_token (`str`):
            The placeholder of images, to which a space on either side belongs.
        control_tokens (`Sequence[str]`, *optional*):
            What is read as a control token where it is escaped.

    Returns:
        `list[list[Run]]`: the pieces between the placeholders, one more than these, and of each its runs.
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

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Makes text safe to print in a terminal."""

MAX_LINE = 1000  # characters


def one_line(text: str) -> str:
    """
    Puts text on one line that is safe for a terminal: joins white space, replaces control characters and those that
    can't be encoded, and truncates very long text.
    """
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in " ".join(text.split())
    )
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..."

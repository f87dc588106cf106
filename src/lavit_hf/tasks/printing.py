# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Text made fit for a terminal."""

MAX_LINE = 1000  # characters


def one_line(text: str) -> str:
    """
    Text on one line that can do nothing to a terminal: white space is joined, control characters and what no encoding
    has are replaced, and what is very long is cut.
    """
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in " ".join(text.split())
    )
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..."

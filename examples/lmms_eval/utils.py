# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the emoji tasks take from their documents."""

from pathlib import Path

from PIL import Image


PICTURES = Path(__file__).parents[1] / "images" / "emoji"


def open_picture(document: dict) -> list[Image.Image]:
    """The drawing that a document is about."""
    return [Image.open(PICTURES / document["picture"])]

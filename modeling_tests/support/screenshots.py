# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The README's images of the page, out of the screenshots that `make test-browser` leaves: `make screenshots`."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image


ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / ".cache" / "screenshots"
PICTURES = {  # screenshots, and how far each is scrolled down, from 0 to 1
    "page-desktop.jpg": (("desktop-read", 0.0), ("desktop-draw", 0.0)),
    "page-phone.jpg": (("phone-read", 0.0), ("phone-read", 1.0), ("phone-draw", 1.0), ("phone-inside", 0.55)),
}
WIDTH = 1600  # of an image
GAP = 24
BACKGROUND = (214, 211, 209)
TALLEST = 2.1  # height to width of a screen
MOST_BYTES = 150_000


def join(screens: Sequence[tuple[str, float]]) -> Image.Image:
    """Screenshots beside each other, cut to one height."""
    width = (WIDTH - GAP * (len(screens) + 1)) // len(screens)
    pictures = [_fit(name, width) for name, _ in screens]
    height = min(round(TALLEST * width), max(picture.height for picture in pictures))
    sheet = Image.new("RGB", (WIDTH, height + 2 * GAP), BACKGROUND)
    for number, (picture, (_, scrolled)) in enumerate(zip(pictures, screens)):
        left = GAP + number * (width + GAP)
        top = round(scrolled * max(0, picture.height - height))
        sheet.paste("white", (left, GAP, left + width, GAP + height))
        sheet.paste(picture.crop((0, top, width, min(top + height, picture.height))), (left, GAP))
    return sheet


def _fit(name: str, width: int) -> Image.Image:
    screen = Image.open(SCREENSHOTS / f"{name}.png").convert("RGB")
    return screen.resize((width, screen.height * width // screen.width), Image.Resampling.LANCZOS)


def save(sheet: Image.Image, path: Path) -> None:
    """In the best quality that is small enough."""
    for quality in range(90, 30, -5):
        sheet.save(path, quality=quality, optimize=True, progressive=True)
        if path.stat().st_size <= MOST_BYTES:
            return
    raise ValueError(f"{path} has {path.stat().st_size} bytes at the lowest quality: choose fewer screenshots.")


if __name__ == "__main__":
    for name, screens in PICTURES.items():
        save(join(screens), ROOT / "docs" / name)
        print(f"Saved docs/{name}")

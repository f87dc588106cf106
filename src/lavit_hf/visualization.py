# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Visualizations: kept patches and contact sheets."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from .lavit.atomic_files import atomic_file
from .lavit.image_loading import reduce_long_sides, to_rgb_image


Color = tuple[int, int, int]

OUTLINE_COLOR = (255, 196, 0)


def draw_keep_mask(
    image: Image.Image,
    keep_mask: torch.Tensor | np.ndarray | Sequence[bool],
    *,
    size: int = 512,
    dimming: float = 0.65,
    line_width: int = 2,
    outline_color: Color = OUTLINE_COLOR,
) -> Image.Image:
    """
    Visualizes which patches of an image were kept. LaVIT (arXiv 2309.04669) turns these into tokens. Kept patches are
    shown in color with an outline and a thin grid; dropped patches are gray and dimmed.

    Args:
        image (`PIL.Image.Image`):
            The image that was tokenized.
        keep_mask (`torch.Tensor`, `np.ndarray` or `list[bool]` of shape `(num_patches,)`):
            Whether each patch was kept, row by row, as booleans or zeros and ones. The patches form a square grid that
            covers the entire image, because the image processor resizes it to a square.
        size (`int`, *optional*, defaults to 512):
            Longer side of the drawing in pixels. The aspect ratio of the image is preserved.
        dimming (`float`, *optional*, defaults to 0.65):
            How much to darken dropped patches, from 0 (not at all) to 1 (black).
        line_width (`int`, *optional*, defaults to 2):
            Width of the outline in pixels. 0 disables outline and grid.
        outline_color (`tuple[int, int, int]`, *optional*, defaults to amber):
            Color of the outline.

    Returns:
        `PIL.Image.Image`: The drawing in mode `"RGB"`.

    Raises:
        `ValueError`: If the mask isn't a flattened square grid of zeros and ones, or if an option is out of range.
    """
    if size < 1 or line_width < 0 or not 0 <= dimming <= 1:
        raise ValueError(
            "`size` must be positive, `line_width` must not be negative, and `dimming` must lie in [0, 1]; got "
            f"{size}, {line_width} and {dimming}."
        )
    grid = _mask_to_grid(keep_mask)
    picture = _fit_longer_side(to_rgb_image(image), size)
    kept = Image.fromarray(grid.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.NEAREST)
    dimmed = ImageEnhance.Brightness(ImageOps.grayscale(picture).convert("RGB")).enhance(1 - dimming)
    drawing = Image.composite(picture, dimmed, kept)
    if line_width:
        drawing.paste(_blend(drawing, outline_color, 0.35), mask=_grid_lines(kept, len(grid)))
        drawing.paste(outline_color, mask=_outline(kept, line_width))
    return drawing


def image_grid(
    images: Sequence[Image.Image],
    columns: int,
    titles: Sequence[str] | None = None,
    *,
    padding: int = 8,
    font_size: int = 16,
    background: Color = (255, 255, 255),
    text_color: Color = (32, 32, 32),
) -> Image.Image:
    """
    Arranges images on a contact sheet, row by row. All cells have the size of the largest image, and smaller images
    are centered.

    Args:
        images (`list[PIL.Image.Image]`):
            The images.
        columns (`int`):
            Number of images per row.
        titles (`list[str]`, *optional*):
            One title per image, shown below it. Long titles are wrapped.
        padding (`int`, *optional*, defaults to 8):
            Space around the cells in pixels.
        font_size (`int`, *optional*, defaults to 16):
            Font size of the titles in pixels.
        background (`tuple[int, int, int]`, *optional*, defaults to white):
            Background color.
        text_color (`tuple[int, int, int]`, *optional*, defaults to dark gray):
            Color of the titles.

    Returns:
        `PIL.Image.Image`: The sheet in mode `"RGB"`.

    Raises:
        `ValueError`: If there are no images or no columns, or if the numbers of titles and images differ.
    """
    if not images or columns < 1:
        raise ValueError(f"A sheet needs at least 1 image and 1 column, got {len(images)} and {columns}.")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"There must be one title per image, got {len(titles)} for {len(images)} images.")

    images = [to_rgb_image(image) for image in images]
    width, height = (max(sides) for sides in zip(*(image.size for image in images)))
    font = ImageFont.load_default(font_size)
    titles = ["\n".join(_wrap(title, font, width)) for title in titles or [""] * len(images)]
    text_gap = padding // 2
    title_height = _text_height(titles, font, text_gap)

    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    step_x, step_y = width + padding, height + title_height + padding
    sheet = Image.new("RGB", (columns * step_x + padding, rows * step_y + padding), background)
    draw = ImageDraw.Draw(sheet)
    for index, (image, title) in enumerate(zip(images, titles)):
        row, column = divmod(index, columns)
        left, top = padding + column * step_x, padding + row * step_y
        sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        middle = (left + width // 2, top + height + text_gap)
        draw.multiline_text(middle, title, text_color, font, anchor="ma", align="center")
    return sheet


def save_image(image: Image.Image, path: str | os.PathLike) -> None:
    """
    Saves an image. The file appears only once it is complete.

    Args:
        image (`PIL.Image.Image`):
            The image.
        path (`str` or `os.PathLike`):
            The file. Its extension sets the format. An existing file is replaced, also through a link, and a missing
            folder is created.

    Raises:
        `OSError`: If the file can't be written.
    """
    path = Path(path)
    encoded = io.BytesIO()
    image.save(encoded, format=Image.registered_extensions()[path.suffix.lower()])
    try:
        with atomic_file(os.path.realpath(path)) as file:
            file.write_bytes(encoded.getbuffer())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # the path that the user passed


def _mask_to_grid(keep_mask: torch.Tensor | np.ndarray | Sequence[bool]) -> np.ndarray:
    """Converts the mask to booleans of shape `(side, side)`."""
    mask = torch.as_tensor(keep_mask)
    if mask.ndim != 1:
        raise ValueError(f"`keep_mask` must have shape (num_patches,), for a single image; got {tuple(mask.shape)}.")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("`keep_mask` must only hold booleans, or zeros and ones.")
    side = math.isqrt(len(mask))
    if not side or side * side != len(mask):
        raise ValueError(f"`keep_mask` must cover a square grid of patches, but has {len(mask)} values.")
    return mask.bool().reshape(side, side).numpy(force=True)


def _fit_longer_side(image: Image.Image, size: int) -> Image.Image:
    scale = size / max(image.size)
    return reduce_long_sides(image).resize(
        [max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC
    )


def _blend(image: Image.Image, color: Color, strength: float) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, color), strength)


def _grid_lines(kept: Image.Image, side: int) -> Image.Image:
    """Returns a mask of one-pixel lines between kept patches."""
    lines = Image.new("L", kept.size)
    draw = ImageDraw.Draw(lines)
    for index in range(1, side):
        x, y = round(index * kept.width / side), round(index * kept.height / side)
        draw.line([(x, 0), (x, kept.height)], 255)
        draw.line([(0, y), (kept.width, y)], 255)
    return Image.composite(lines, Image.new("L", kept.size), kept)


def _outline(kept: Image.Image, width: int) -> Image.Image:
    """Returns a mask of the inner border of the kept region: the part that an erosion removes."""
    framed = ImageOps.expand(kept, width)  # with a dropped border, so that the image's edge is outlined too
    inner = framed.filter(ImageFilter.MinFilter(2 * width + 1))
    inner = ImageOps.crop(inner, width)
    return Image.composite(Image.new("L", kept.size), kept, inner)


def _wrap(text: str, font: ImageFont.ImageFont, width: int) -> list[str]:
    """Wraps a text at words into lines of at most `width` pixels. Longer words get their own line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _text_height(texts: Sequence[str], font: ImageFont.ImageFont, gap: int) -> int:
    """Height in pixels of the tallest text with a gap above and below it; 0 if all texts are empty."""
    if not any(texts):
        return 0
    draw = ImageDraw.Draw(Image.new("L", (1, 1)))
    return max(math.ceil(draw.multiline_textbbox((0, 0), text, font)[3]) for text in texts) + 2 * gap

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Curves on a white ground, drawn by Pillow: one panel for each quantity, all over the same numbers."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont


WIDTH, HEIGHT = 560, 360  # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 76  # margins
TICKS = 4
INK, FAINT = (60, 60, 60), (225, 225, 225)
COLORS = ((200, 80, 20), (30, 100, 180), (30, 130, 70), (130, 60, 150))
DOT = 4

Points = Sequence[tuple[float, float]]


def draw_curves(panels: Mapping[str, Mapping[str, Points]], across: str) -> Image.Image:
    """
    Draws curves.

    Args:
        panels (`Mapping[str, Mapping[str, Points]]`):
            By the name of a quantity the curves by their names, each a list of points `(number, quantity)`. A name
            has the same color in all panels; a curve of one point is a dot.
        across (`str`):
            What the numbers are.

    Returns:
        `PIL.Image.Image`: The panels beside each other.
    """
    sheet = Image.new("RGB", (WIDTH * len(panels), HEIGHT), "white")
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    for number, (title, curves) in enumerate(panels.items()):
        sheet.paste(_draw_panel(title, curves, across, colors), (number * WIDTH, 0))
    return sheet


def _draw_panel(title: str, curves: Mapping[str, Points], across: str, colors: Mapping[str, tuple]) -> Image.Image:
    panel = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, small, large = ImageDraw.Draw(panel), ImageFont.load_default(13), ImageFont.load_default(16)
    xs, ys = (_range([point[axis] for points in curves.values() for point in points]) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        right, up = ((value - low) / (high - low) for value, (low, high) in ((x, xs), (y, ys)))
        return LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    for tick in range(TICKS + 1):
        x, y = (low + tick / TICKS * (high - low) for low, high in (xs, ys))
        draw.line((place(xs[0], y), place(xs[1], y)), FAINT)
        draw.text((LEFT - 8, place(x, y)[1]), f"{y:.3g}", INK, small, anchor="rm")
        draw.text((place(x, y)[0], HEIGHT - BOTTOM + 8), f"{x:.0f}", INK, small, anchor="mt")
    draw.text((LEFT, 14), title, INK, large)
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 28), across, INK, small, anchor="mt")
    for name, points in reversed(curves.items()):  # the first on top
        dots = [place(*point) for point in sorted(points)]
        draw.line(dots, colors[name], 2)
        for x, y in dots:
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), colors[name])
    left = LEFT
    for name in curves:
        draw.text((left, HEIGHT - 20), name, colors[name], small)
        left += draw.textlength(name, small) + 20
    return panel


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest of values, with something between them."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)

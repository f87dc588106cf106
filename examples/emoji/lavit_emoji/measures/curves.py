# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Plots of several quantities against the same numbers."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


PANEL_SIZE = (4.5, 3.4)  # width and height in inches

Points = Sequence[tuple[float, float]]


def draw_curves(panels: Mapping[str, Mapping[str, Points]], across: str) -> Figure:
    """
    Plots curves.

    Args:
        panels (`Mapping[str, Mapping[str, Points]]`):
            For each quantity, its curves by name, each a list of points `(number, quantity)`. Curves of the same name
            have the same color in all panels.
        across (`str`):
            Label of the horizontal axis.

    Returns:
        `Figure`: The panels side by side, with one legend.
    """
    width, height = PANEL_SIZE
    figure = Figure(figsize=(width * len(panels), height), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    handles = {}
    for panel, (title, curves) in zip(axes, panels.items()):
        for name, points in curves.items():
            number = names.index(name)
            handles[name], *_ = panel.plot(
                *zip(*sorted(points)), marker="o", markersize=4, color=f"C{number}", zorder=-number
            )
        panel.set(title=title, xlabel=across)
        panel.grid(axis="y", alpha=0.4)
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=len(names))
    return figure

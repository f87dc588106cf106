# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Targets for the emoji checkpoint: a table of its figures next to another checkpoint's, and the targets not met."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


Figures = Mapping[str, "Figures | float | int | str | list"]

PARTS = ("captions", "stranger", "questions", "kept", "pictures", "seconds")  # of an evaluation

KEPT, KEPT_ONE_SIZE = ("kept", "test_drawings"), ("kept", "test_drawings_one_size")
DRAWINGS, STRANGER, ARTIST = ("captions", "test_drawings"), ("stranger",), ("captions", "validation_artist")
SHEETS, PAIRS = ("questions", "test_drawings"), ("pictures", "sheets_of_two")
NOTHING = "-"
TOLERANCE = 1.1  # factor by which two measurements of the same seconds can differ


@dataclass(frozen=True)
class Row:
    """
    A row of the table, with one or two figures per cell.

    Args:
        title (`str`): What is measured.
        paths (`tuple[tuple[str, ...], ...]`): Paths of the figures in `evaluation.json`.
        wanted (`str`): The target, in words.
        is_met (`Callable`, *optional*):
            Whether the target is met, given the figures, those of the other checkpoint, and those in `beside`.
        beside (`Mapping[str, tuple[str, ...]]`): Paths of figures to compare with in the same file, by name.
        sample (`tuple[str, ...]`, *optional*): Path of the number of images or questions.
    """

    title: str
    paths: tuple[tuple[str, ...], ...]
    wanted: str = ""
    is_met: Callable[[list[float], list[float] | None, list[float]], bool] | None = None
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sample: tuple[str, ...] | None = None

    def cell(self, figures: Figures) -> str:
        """The figures as shown in the table; a dash if they were not measured."""
        values = self.values(figures)
        return NOTHING if values is None else ", ".join(f"{value:.2f}" for value in values)

    def values(self, figures: Figures) -> list[float] | None:
        """The figures; `None` if one was not measured."""
        values = [find(figures, path) for path in self.paths]
        return None if None in values else values

    def sample_size(self, figures: Figures) -> str:
        """The number of images or questions that the figures were measured on; empty if it was not recorded."""
        number = None if self.sample is None else find(figures, self.sample)
        return "" if number is None else f"{number:,}"

    def comparison(self, figures: Figures) -> str:
        """The figures to compare with."""
        found = {name: find(figures, path) for name, path in self.beside.items()}
        return ", ".join(f"{name} {value:.2f}" for name, value in found.items() if value is not None)

    def falls_short(self, figures: Figures, before: Figures) -> bool:
        """Whether the figures were measured and don't meet the target."""
        values = self.values(figures)
        if values is None or self.is_met is None:
            return False
        others = [find(figures, path) for path in self.beside.values()]
        return not self.is_met(values, self.values(before), others)


def at_least(*limits: float) -> Callable:
    """Whether each figure is at least as large as its limit."""
    return lambda values, before, beside: all(value >= limit for value, limit in zip(values, limits, strict=True))


def at_least_and_above(*limits: float) -> Callable:
    """Whether each figure is at least as large as its limit, and larger than the figure to compare with."""
    return lambda values, before, beside: all(
        value >= limit and value > other for value, limit, other in zip(values, limits, beside, strict=True)
    )


def times(factor: float) -> Callable:
    """Whether the first figure is at least `factor` times the second."""
    return lambda values, before, beside: values[0] >= factor * values[1]


def within(share: float) -> Callable:
    """Whether the figure differs from 1 by at most `share`."""
    return lambda values, before, beside: abs(values[0] - 1) <= share


def no_slower(values: list[float], before: list[float] | None, beside: list[float]) -> bool:
    """Whether the seconds are at most those of the other checkpoint, within the tolerance."""
    return before is None or values[0] <= TOLERANCE * before[0]


def _names(title: str, group: tuple[str, ...], *wanted: float, above_probe: bool = False, keyword: bool = True) -> Row:
    """A row for captions, compared with the probe."""
    measures = ("exact", "right_keyword") if keyword else ("exact",)
    *split, drawings = group
    return Row(
        title,
        tuple((*split, "model", drawings, measure) for measure in measures),
        ", ".join(f"{limit:.2f}" for limit in wanted) + (", above the probe" if above_probe else ""),
        (at_least_and_above if above_probe else at_least)(*wanted) if wanted else None,
        {
            f"probe{' keyword' if measure != 'exact' else ''}": (*split, "probe", drawings, measure)
            for measure in measures
        },
        (*split, "model", drawings, "number"),
    )


def _question(title: str, subject: str, wanted: float | None = None) -> Row:
    """A row for questions, compared with guesses from words and the most frequent answer."""
    path = (*SHEETS, "questions", subject)
    reach = {} if wanted is None else {"wanted": f"{wanted:.2f}", "is_met": at_least(wanted)}
    beside = {"guessed": (*path, "by_words"), "most frequent": (*path, "most_frequent")}
    return Row(title, ((*path, "right"),), beside=beside, sample=(*path, "number"), **reach)


def _pictures(title: str, kind: str, group: str, wanted: float | None = None) -> Row:
    """A row for generated images, compared with the judge's accuracy on the drawings."""
    paths = (("pictures", kind, group, "first"), ("pictures", kind, group, "first_five"))
    reach = {}
    if wanted is not None:
        reach = {"wanted": f"first five {wanted:.2f}", "is_met": lambda values, *_: values[1] >= wanted}
    drawings = ("pictures", "drawings", group)
    beside = {"the drawings": (*drawings, "first"), "first five": (*drawings, "first_five")}
    return Row(title, paths, beside=beside, sample=("pictures", kind, group, "number"), **reach)


def _seconds(title: str, name: str) -> Row:
    return Row(title, (("seconds", name),), "no slower", no_slower)


ROWS = (
    Row(
        "sheets: share of patches kept where something is drawn, and far from any drawing",
        ((*KEPT, "kept", "drawn"), (*KEPT, "kept", "far")),
        "10 times as many",
        times(10),
    ),
    Row(
        "sheets: rank correlation of kept patches and drawn area",
        ((*KEPT, "count_to_drawn_area"),),
        "0.60",
        at_least(0.6),
    ),
    Row(
        "sheets of four drawings against one of the same size: ratio of kept patches",
        ((*KEPT_ONE_SIZE, "four_to_one"),),
        "1.30",
        at_least(1.3),
    ),
    Row(
        "ratio of kept patches, sampled against by threshold",
        ((*KEPT, "lot_to_threshold"),),
        "0.85 to 1.15",
        within(0.15),
    ),
    Row(
        "sheets: cosine of reconstructed features, of all patches and of drawn ones",
        ((*KEPT, "rebuilt", "selected"), (*KEPT, "rebuilt", "selected_drawn")),
        beside={"random patches": (*KEPT, "rebuilt", "random"), "drawn": (*KEPT, "rebuilt", "random_drawn")},
    ),
    _names("caption, exact name: everyday concepts", (*DRAWINGS, "everyday"), 0.7, keyword=False),
    _names("caption, exact name and a right word: all concepts", (*DRAWINGS, "all")),
    _names("the same for a held-out artist (used for validation)", (*ARTIST, "all")),
    _names("the same for an unseen artist, OpenMoji", (*STRANGER, "all"), 0.3, 0.4, above_probe=True),
    _names("the same, everyday concepts", (*STRANGER, "everyday")),
    Row(
        "sheets of two drawings: both named",
        ((*SHEETS, "captions", "both"),),
        "0.40",
        at_least(0.4),
        sample=(*SHEETS, "captions", "number"),
    ),
    _question("question: how many", "number", 0.8),
    _question("question: which color", "color", 0.8),
    _question("question: what is left or right of it", "left_right", 0.75),
    _question("question: what is beside, above or below it", "place"),
    _question("question: which kind", "kind"),
    _question("question: yes or no", "yes_no"),
    _question("of these, about left, right, above and below", "yes_no_side"),
    _pictures(
        "text to image, judge's first guess and first five: everyday concepts", "text_to_picture", "everyday", 0.6
    ),
    _pictures("the same, all concepts", "text_to_picture", "all"),
    _pictures(
        "reconstruction, judge's first guess and first five: everyday concepts", "reconstruction", "everyday", 0.55
    ),
    _pictures("the same, all concepts", "reconstruction", "all"),
    Row(
        "text to image of two things: both found",
        ((*PAIRS, "painted", "both"),),
        beside={"sheets": (*PAIRS, "sheets", "both"), "chance": (*PAIRS, "chance", "both")},
        sample=(*PAIRS, "painted", "number"),
    ),
    _seconds("`lavit caption`, seconds of CPU time", "caption"),
    _seconds("`lavit draw`, seconds of CPU time", "picture"),
    Row("of these, the model alone", (("seconds", "caption_alone"), ("seconds", "picture_alone"))),
)


def find(figures: Figures, path: tuple[str, ...]) -> float | None:
    """The figure at a path; `None` if it was not measured."""
    for name in path:
        if name not in figures:
            return None
        figures = figures[name]
    return figures


def targets_table(figures: Figures, before: Figures) -> str:
    """
    The table, as Markdown.

    Args:
        figures (`Mapping`): Figures of this checkpoint from `evaluate.py`.
        before (`Mapping`): Figures of the other checkpoint.

    Returns:
        `str`: For each row, the sample size, the other checkpoint's figures, this one's, the figures to compare with,
        and the target.
    """
    lines = ["| | n | first version | this version | for comparison | target |"]
    lines.append("| --- | ---: | --- | --- | --- | --- |")
    for row in ROWS:
        cells = (row.title, row.sample_size(figures), row.cell(before), row.cell(figures))
        cells += (row.comparison(figures), row.wanted)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shortfalls(figures: Figures, before: Figures) -> list[str]:
    """The targets that were not met, each as `title: figure (target: ...)`."""
    return [
        f"{row.title}: {row.cell(figures)} (target: {row.wanted})" for row in ROWS if row.falls_short(figures, before)
    ]

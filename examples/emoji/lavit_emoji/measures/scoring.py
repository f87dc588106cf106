# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Scores captions and answers; doesn't need a model."""

import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from ..dataset.papers import WORDS
from .guessing import subjects


ARTICLE = re.compile(r"^(a|an|the|one|two|three|four) ", re.IGNORECASE)
FUNCTION_WORDS = {"a", "an", "and", "at", "for", "in", "of", "on", "the", "to", "with", "without"}
COLOR = re.compile(rf"^({'|'.join(WORDS)}) ", re.IGNORECASE)


def score_names(
    said: Sequence[str], names: Sequence[str], keywords: Sequence[Collection[str]]
) -> dict[str, float | int]:
    """
    Scores captions of drawings.

    Args:
        said (`Sequence[str]`): The caption of each drawing.
        names (`Sequence[str]`): The names of the drawings.
        keywords (`Sequence[Collection[str]]`): The keywords of the drawings.

    Returns:
        `dict`: The `number` of drawings; the share of captions that are the exact name (`exact`); the share that
        contain a word of the name or of a keyword, except for words such as `of` and `and` (`right_keyword`); and the
        mean share of the name's words in the caption (`words_of_name`).

    Raises:
        `ValueError`: If there are no drawings.
    """
    if not names:
        raise ValueError("There are no drawings to score.")
    spoken = [_words(text) for text in said]
    named = [_words(name) for name in names]
    known = [_words(" ".join([name, *words])) for name, words in zip(names, keywords, strict=True)]
    return {
        "number": len(names),
        "exact": float(np.mean([same(a, b) for a, b in zip(said, names, strict=True)])),
        "right_keyword": float(np.mean([bool(a & b) for a, b in zip(spoken, known)])),
        "words_of_name": float(np.mean([len(a & b) / len(b) for a, b in zip(spoken, named)])),
    }


def same(first: str, second: str) -> bool:
    """Whether two texts are the same except for case and surrounding whitespace."""
    return first.strip().lower() == second.strip().lower()


def things_named(caption: str) -> set[str]:
    """
    The things named in the caption of a sheet, in lower case, with and without color: `red apple`, `apple` and `dogs`
    for `a red apple and two dogs`.
    """
    phrases = {ARTICLE.sub("", phrase.strip().lower()) for phrase in caption.split(" and ")}
    return phrases | {COLOR.sub("", phrase) for phrase in phrases}


def score_pairs(captions: Sequence[str], nouns: Sequence[Sequence[str]]) -> dict[str, float | int]:
    """
    Scores captions of sheets with two different drawings.

    Args:
        captions (`Sequence[str]`): The captions.
        nouns (`Sequence[Sequence[str]]`): The two nouns for each sheet; colors and articles are ignored.

    Returns:
        `dict`: The `number` of sheets, and the share of captions that name `both` things, and `at_least_one`.
    """
    found = np.array([[noun.lower() in things_named(text) for noun in pair] for text, pair in zip(captions, nouns)])
    return {
        "number": len(found),
        "both": float(found.all(axis=1).mean()),
        "at_least_one": float(found.any(axis=1).mean()),
    }


def score_answers(
    kinds: Iterable[str], questions: Iterable[str], answers: Iterable[str], said: Iterable[str]
) -> dict[str, dict[str, float | int]]:
    """
    Scores answers by subject.

    Args:
        kinds (`Iterable[str]`): The kind of each question.
        questions (`Iterable[str]`): The questions.
        answers (`Iterable[str]`): The right answers.
        said (`Iterable[str]`): The answers to score.

    Returns:
        `dict[str, dict]`: For each subject (see [`~guessing.subjects`]), the `number` of questions and the share of
        `right` answers.
    """
    right: dict[str, list[bool]] = {}
    for kind, question, answer, given in zip(kinds, questions, answers, said, strict=True):
        for subject in subjects(kind, question):
            right.setdefault(subject, []).append(same(given, answer))
    return {name: {"number": len(marks), "right": float(np.mean(marks))} for name, marks in sorted(right.items())}


def _words(text: str) -> set[str]:
    return set(text.lower().split()) - FUNCTION_WORDS

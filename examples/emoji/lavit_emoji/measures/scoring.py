# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What a text about an image is worth: figures of captions and answers, without any model."""

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
    How well drawings are named.

    Args:
        said (`Sequence[str]`): What was said of each drawing.
        names (`Sequence[str]`): Their names.
        keywords (`Sequence[Collection[str]]`): Their keywords.

    Returns:
        `dict`: `number` of drawings; the share called by the very name (`exact`); the share of which a word of the
        name or of a keyword was said, `of`, `and` and the like left out (`right_keyword`); and the mean share of the
        name's words that were said (`words_of_name`).

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
    """Whether two texts are the same but for capitals and white space around them."""
    return first.strip().lower() == second.strip().lower()


def things_named(caption: str) -> set[str]:
    """
    What a caption of a sheet names, in lower case, with and without color: `a red apple and two dogs` names `red
    apple`, `apple` and `dogs`.
    """
    phrases = {ARTICLE.sub("", phrase.strip().lower()) for phrase in caption.split(" and ")}
    return phrases | {COLOR.sub("", phrase) for phrase in phrases}


def score_pairs(captions: Sequence[str], nouns: Sequence[Sequence[str]]) -> dict[str, float | int]:
    """
    How well the captions of sheets with two different drawings name them.

    Args:
        captions (`Sequence[str]`): Captions of sheets.
        nouns (`Sequence[Sequence[str]]`): What each sheet shows, two nouns; colors and articles do not count.

    Returns:
        `dict`: `number` of sheets, the share where `both` are named, and where at `least_one` is.
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
    How many questions are answered right, by what they ask for.

    Args:
        kinds (`Iterable[str]`): The kind of each question.
        questions (`Iterable[str]`): The questions.
        answers (`Iterable[str]`): The right answers.
        said (`Iterable[str]`): The given ones.

    Returns:
        `dict[str, dict]`: For each of what [`~guessing.subjects`] tells apart, the `number` of questions and the share
        that is `right`.
    """
    right: dict[str, list[bool]] = {}
    for kind, question, answer, given in zip(kinds, questions, answers, said, strict=True):
        for subject in subjects(kind, question):
            right.setdefault(subject, []).append(same(given, answer))
    return {name: {"number": len(marks), "right": float(np.mean(marks))} for name, marks in sorted(right.items())}


def _words(text: str) -> set[str]:
    return set(text.lower().split()) - FUNCTION_WORDS

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Guesses answers from the words of the question alone, without the image.

This is the baseline for the accuracy of models that see the sheet.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np


SMOOTHING = 0.5  # pseudocount of each word with each answer
LEFT_OR_RIGHT = re.compile(r"\b(left|right) of\b")
SIDE = re.compile(r"\b(left of|right of|above|below)\b")


class WordGuesser:
    """
    A naive Bayes classifier that predicts the answer from the words of a question.

    Args:
        questions (`Sequence[str]`): Questions to learn from.
        answers (`Sequence[str]`): Their answers.

    Raises:
        `ValueError`: If there are no questions, or their number differs from that of the answers.
    """

    def __init__(self, questions: Sequence[str], answers: Sequence[str]):
        if not questions or len(questions) != len(answers):
            raise ValueError(f"{len(questions)} questions with {len(answers)} answers are not enough to learn from.")
        self.answers, labels = np.unique(answers, return_inverse=True)
        bags = [words(question) for question in questions]
        self.index = {word: number for number, word in enumerate(sorted(set().union(*bags)))}
        seen = np.full((len(self.answers), len(self.index)), SMOOTHING)
        for label, bag in zip(labels, bags, strict=True):
            seen[label, [self.index[word] for word in bag]] += 1
        counts = np.bincount(labels)
        self.prior = np.log(counts)
        self.log_odds = np.log(seen / (counts[:, None] + 2 * SMOOTHING))

    def __call__(self, question: str) -> str:
        """The most likely answer to a question."""
        known = [self.index[word] for word in words(question) if word in self.index]
        return str(self.answers[np.argmax(self.prior + self.log_odds[:, known].sum(axis=1))])


def words(question: str) -> set[str]:
    """The words of a question and its pairs of adjacent words, in lower case."""
    found = re.findall(r"[\w'-]+", question.lower())
    return {*found, *map(" ".join, pairwise(found))}


def subjects(kind: str, question: str) -> list[str]:
    """
    The subjects that a question counts for: its kind; for `place`, also `left_right` (`What is left of the cat?`); for
    `yes_no`, also `yes_no_side` (`Is the cat left of the dog?`, also right of, above and below).
    """
    if kind == "place" and LEFT_OR_RIGHT.search(question):
        return [kind, "left_right"]
    if kind == "yes_no" and SIDE.search(question):
        return [kind, "yes_no_side"]
    return [kind]


def by_subject(rows: Iterable[Mapping]) -> dict[str, tuple[list[str], list[str]]]:
    """Groups the questions and answers of sheets by subject."""
    sorted_out = defaultdict(lambda: ([], []))
    for row in rows:
        for kind, question, answer in zip(row["kinds"], row["questions"], row["answers"], strict=True):
            for subject in subjects(kind, question):
                sorted_out[subject][0].append(question)
                sorted_out[subject][1].append(answer)
    return dict(sorted_out)


def score_guesses(train: Iterable[Mapping], test: Iterable[Mapping]) -> dict[str, dict[str, float]]:
    """
    The share of questions that are answered correctly without the image.

    Args:
        train (`Iterable[Mapping]`):
            Rows of sheets to learn from, with `kinds`, `questions` and `answers`.
        test (`Iterable[Mapping]`): Rows of sheets with the questions to answer.

    Returns:
        `dict[str, dict[str, float]]`: For each subject (see [`subjects`]) in both: the number of questions in `test`,
        and the accuracy of the most frequent answer (`most_frequent`) and of a [`WordGuesser`] (`by_words`).
    """
    learned, asked = by_subject(train), by_subject(test)
    scores = {}
    for kind in sorted(learned.keys() & asked.keys()):
        guess, most_frequent = WordGuesser(*learned[kind]), Counter(learned[kind][1]).most_common(1)[0][0]
        questions, answers = asked[kind]
        scores[kind] = {
            "number": len(questions),
            "most_frequent": float(np.mean([answer == most_frequent for answer in answers])),
            "by_words": float(np.mean([guess(text) == answer for text, answer in zip(questions, answers)])),
        }
    return scores

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
How far one gets without looking: answers guessed from the words of the question alone.

What a model that sees the sheet answers is worth what it has over this.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np


SMOOTHING = 0.5  # times that every word is taken to have been seen with every answer
LEFT_OR_RIGHT = re.compile(r"\b(left|right) of\b")
SIDE = re.compile(r"\b(left of|right of|above|below)\b")


class WordGuesser:
    """
    Naive Bayes over the words of a question: the most probable answer, given with which answers they were seen.

    Args:
        questions (`Sequence[str]`): Questions to learn from.
        answers (`Sequence[str]`): Their answers.

    Raises:
        `ValueError`: If there are none, or not as many answers as questions.
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
        """The most probable answer to a question."""
        known = [self.index[word] for word in words(question) if word in self.index]
        return str(self.answers[np.argmax(self.prior + self.log_odds[:, known].sum(axis=1))])


def words(question: str) -> set[str]:
    """The words of a question, in lower case, and its pairs of neighbors."""
    found = re.findall(r"[\w'-]+", question.lower())
    return {*found, *map(" ".join, pairwise(found))}


def subjects(kind: str, question: str) -> list[str]:
    """
    What a question counts as: its kind, and among those for a place `left_right` (`What is left of the cat?`), among
    those for yes or no `yes_no_side` (`Is the cat left of the dog?`, above and below too).
    """
    if kind == "place" and LEFT_OR_RIGHT.search(question):
        return [kind, "left_right"]
    if kind == "yes_no" and SIDE.search(question):
        return [kind, "yes_no_side"]
    return [kind]


def by_subject(rows: Iterable[Mapping]) -> dict[str, tuple[list[str], list[str]]]:
    """Questions and answers of rows of sheets by what they ask for."""
    sorted_out = defaultdict(lambda: ([], []))
    for row in rows:
        for kind, question, answer in zip(row["kinds"], row["questions"], row["answers"], strict=True):
            for subject in subjects(kind, question):
                sorted_out[subject][0].append(question)
                sorted_out[subject][1].append(answer)
    return dict(sorted_out)


def score_guesses(train: Iterable[Mapping], test: Iterable[Mapping]) -> dict[str, dict[str, float]]:
    """
    The share of questions that is answered right without looking.

    Args:
        train (`Iterable[Mapping]`):
            Rows of sheets to learn from, of which `kinds`, `questions` and `answers` are read.
        test (`Iterable[Mapping]`): Rows to answer.

    Returns:
        `dict[str, dict[str, float]]`: For each of [`subjects`] that both have: the number of questions in `test`, and
        the accuracy of the most frequent answer (`most_frequent`) and of a [`WordGuesser`] (`by_words`).
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

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""VQA's official accuracy (arXiv 1505.00468), with its normalization of answers."""

import re
from collections.abc import Callable, Sequence


PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = ("none zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ARTICLES = {"a", "an", "the"}

# Contractions in which the official evaluation restores a missing apostrophe.
CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""

_DIGITS = {word: str(number) for number, words in enumerate(NUMBERS) for word in words.split()}
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTED.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")

AGREEING_ANNOTATORS = 3  # number of annotators whose agreement counts as fully correct


def normalize_answer(answer: str) -> str:
    """
    Normalizes an answer as in the official evaluation: removes punctuation and articles, writes numbers as digits, and
    converts it to lower case.

    Args:
        answer (`str`):
            The answer, such as "Two dogs.".

    Returns:
        `str`: "2 dogs".
    """
    answer = answer.replace("\n", " ").replace("\t", " ").strip()
    words = (_DIGITS.get(word, word) for word in _strip_punctuation(answer).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """
    Computes the accuracy of an answer. Each annotator in turn is left out, and the accuracy is a third for each of the
    others who gave this answer, at most 1; the result is the average. With a single annotator, the accuracy is 1 for
    agreement and 0 otherwise.

    Args:
        answer (`str`):
            The answer.
        references (`Sequence[str]`):
            The annotators' answers.

    Returns:
        `float`: from 0 to 1.

    Raises:
        `ValueError`: If there are no annotators.

    Example:

    ```python
    >>> from lavit_hf.evaluation import vqa_accuracy

    >>> vqa_accuracy("Two", ["2"] * 2 + ["3"] * 8)
    0.6
    ```
    """
    if not references:
        raise ValueError("There are no annotators to compare the answer with.")
    answer = normalize_answer(answer)
    agreeing = sum(normalize_answer(reference) == answer for reference in references)
    if len(references) == 1:
        return float(agreeing)
    others = len(references) - agreeing
    return (agreeing * _share(agreeing - 1) + others * _share(agreeing)) / len(references)


def score_answers(
    answers: Sequence[str], references: Sequence[Sequence[str]], lemmatize: Callable[[str], str] | None = None
) -> list[float]:
    """
    Computes the accuracy of each answer.

    Args:
        answers (`Sequence[str]`):
            The answers.
        references (`Sequence[Sequence[str]]`):
            The annotators' answers to each question.
        lemmatize (`Callable`, *optional*):
            Lemmatizes answers and references.

    Returns:
        `list[float]`: from 0 to 1.
    """
    base = lemmatize or str
    return [vqa_accuracy(base(answer), [base(text) for text in texts]) for answer, texts in zip(answers, references)]


def _share(agreeing: int) -> float:
    return min(1.0, agreeing / AGREEING_ANNOTATORS)


def _strip_punctuation(text: str) -> str:
    """Removes marks next to a space, or all marks if a number contains a comma. Replaces other marks by a space."""
    stripped, has_number = text, _COMMA_IN_NUMBER.search(text)
    for mark in PUNCTUATION:
        vanishes = has_number or f"{mark} " in text or f" {mark}" in text
        stripped = stripped.replace(mark, "" if vanishes else " ")
    return _PERIOD.sub("", stripped)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Scores of captions against human references: CIDEr, BLEU-4, ROUGE-L and SPICE, computed as in COCO's evaluation."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..tasks.failures import Failure
from .options import Tokenizer


_WORD = re.compile(r"[\w'-]*\w")


class CaptionScores(NamedTuple):
    """
    Scores of captions.

    Args:
        scores (`dict[str, float]`):
            Scores over all captions by name, multiplied by 100 as in papers.
        each (`list[dict[str, float]]`):
            Scores of each caption, in the same unit.
    """

    scores: dict[str, float]
    each: list[dict[str, float]]


def score_captions(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: Tokenizer | str = Tokenizer.ptb,
    spice: bool = False,
) -> CaptionScores:
    """
    Scores captions with `pycocoevalcap`.

    Args:
        captions (`Sequence[str]`):
            A caption for each image.
        references (`Sequence[Sequence[str]]`):
            Human captions for each image.
        tokenizer (`Tokenizer` or `str`, *optional*, defaults to `"ptb"`):
            `"ptb"`, the Penn Treebank tokenizer used for published scores, which requires Java, or `"words"`.
        spice (`bool`, *optional*, defaults to `False`):
            Whether to compute SPICE, which requires Java and is slow.

    Returns:
        [`CaptionScores`]: `CIDEr`, `BLEU-4`, `ROUGE-L`, `SPICE` if requested, and `exact`, the share of captions that
        match a reference, ignoring case and white space.

    Raises:
        `ValueError`: If there are no captions, or one has no references.

    Example:

    ```python
    >>> from lavit_hf.evaluation import score_captions

    >>> score_captions(["a red dog"], [["a red dog", "a dog"]], tokenizer="words").scores["ROUGE-L"]
    100.0
    ```
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError("There must be captions, and references for each of them.")
    said, told = _tokenize(captions, references, Tokenizer(tokenizer))
    columns = _score_words(said, told) | ({"SPICE": _score_spice(said, told)} if spice else {})
    exact = [_plain(caption) in map(_plain, texts) for caption, texts in zip(captions, references)]
    columns["exact"] = sum(exact) / len(exact), exact
    each = [dict(zip(columns, map(_percent, row))) for row in zip(*(values for _, values in columns.values()))]
    return CaptionScores({name: _percent(score) for name, (score, _) in columns.items()}, each)


# Input of the scorers: tokenized texts by image index.
_Texts = dict[int, list[str]]


def _score_words(said: _Texts, told: _Texts) -> dict[str, tuple[float, Sequence[float]]]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    bleu, each_bleu = Bleu(4).compute_score(told, said, verbose=0)
    return {
        "CIDEr": Cider().compute_score(told, said),
        "BLEU-4": (bleu[-1], each_bleu[-1]),
        "ROUGE-L": Rouge().compute_score(told, said),
    }


def _score_spice(said: _Texts, told: _Texts) -> tuple[float, Sequence[float]]:
    from pycocoevalcap.spice.spice import Spice

    score, each = Spice().compute_score(told, said)
    return score, [scores["All"]["f"] for scores in each]


def _tokenize(
    captions: Sequence[str], references: Sequence[Sequence[str]], tokenizer: Tokenizer
) -> tuple[_Texts, _Texts]:
    texts = dict(enumerate([*([caption] for caption in captions), *map(list, references)]))
    cut = _by_treebank(texts) if tokenizer is Tokenizer.ptb else _by_words(texts)
    count = len(captions)
    return {number: cut[number] for number in range(count)}, {number: cut[count + number] for number in range(count)}


def _by_treebank(texts: _Texts) -> _Texts:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    lines = {number: [{"caption": " ".join(text.split())} for text in group] for number, group in texts.items()}
    cut = PTBTokenizer().tokenize(lines)
    if {number: len(group) for number, group in cut.items()} != {
        number: len(group) for number, group in texts.items()
    }:
        raise Failure("the Java tokenizer of the Penn Treebank failed. To do without it, pass --tokenizer words.")
    return cut


def _by_words(texts: _Texts) -> _Texts:
    return {number: [" ".join(_WORD.findall(text.lower())) for text in group] for number, group in texts.items()}


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _percent(share: float) -> float:
    return 100 * float(share)

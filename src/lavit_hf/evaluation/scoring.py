# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Scores answers, over all samples and by kind."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from ..lavit.processing_lavit import lemmatize_answer
from ..tasks.failures import Failure
from .answer_scores import score_answers
from .benchmarks import Kind
from .caption_scores import score_captions
from .requests import EvaluationRequest
from .samples import Sample


if TYPE_CHECKING:
    from .picture_scores import ClipScorer, FidScorer


class Answer(NamedTuple):
    """A sample with its answer."""

    sample: Sample
    fields: dict[str, Any]

    @property
    def text(self) -> str:
        """The text, or the path of the image."""
        return self.fields["answer"]


class PictureScorers(NamedTuple):
    """Scorers to choose and score images; `None` if not needed."""

    clip: "ClipScorer | None"
    fid: "FidScorer | None"


# Scores over all answers, and scores of each answer.
Scores = tuple[dict[str, float], list[dict[str, float]]]


def score_texts(request: EvaluationRequest, answers: Sequence[Answer]) -> dict[str, Any]:
    """
    Scores captions or answers.

    Args:
        request (`EvaluationRequest`):
            The evaluation.
        answers (`Sequence[Answer]`):
            The answers.

    Returns:
        `dict`: `scores`; `by_kind`, the number and scores of each kind, if there are kinds; and `each`, the scores of
        each answer.
    """
    score = _score_captions if request.benchmark.kind is Kind.captions else _score_answers
    scores, each = score(request, answers)
    kinds = sorted({answer.sample.kind for answer in answers if answer.sample.kind is not None})
    by_kind = {
        kind: _score_kind(score, request, [answer for answer in answers if answer.sample.kind == kind])
        for kind in kinds
    }
    return {"scores": scores, "each": each} | ({"by_kind": by_kind} if by_kind else {})


def _score_kind(
    score: Callable[..., Scores], request: EvaluationRequest, answers: Sequence[Answer]
) -> dict[str, float]:
    return {"number": len(answers), **score(request, answers)[0]}


def _score_captions(request: EvaluationRequest, answers: Sequence[Answer]) -> Scores:
    return score_captions(
        [answer.text for answer in answers],
        [answer.sample.references for answer in answers],
        request.options.tokenizer,
        request.settings["scorers"]["spice"],
    )


def _score_answers(request: EvaluationRequest, answers: Sequence[Answer]) -> Scores:
    each = score_answers(
        [answer.text for answer in answers],
        [answer.sample.references for answer in answers],
        lemmatize_answer if request.protocol.lemmas else None,
    )
    return {"accuracy": 100 * fmean(each)}, [{"accuracy": 100 * accuracy} for accuracy in each]


def score_pictures(
    request: EvaluationRequest,
    answers: Sequence[Answer],
    scorers: PictureScorers,
    skip: Callable[[Sample, ValueError], None],
) -> dict[str, Any]:
    """
    Scores generated images, with one image in memory at a time.

    Args:
        request (`EvaluationRequest`):
            The evaluation, with the real images.
        answers (`Sequence[Answer]`):
            The generated images.
        scorers (`PictureScorers`):
            The scorers.
        skip (`Callable`):
            Called with samples whose real images cannot be read. Their generated images are not scored.

    Returns:
        `dict`: `scores`, and `each`, the scores of each image.

    Raises:
        Failure: If fewer than two real images can be read for FID.
    """
    if not request.benchmark.scored:
        return {"scores": {}, "each": [{} for _ in answers]}
    each = []
    for answer in answers:
        try:  # before the generated image is added, as FID compares equal numbers
            real = None if scorers.fid is None else request.samples.read(answer.sample.picture)
        except ValueError as error:
            skip(answer.sample, error)
            each.append({})
            continue
        with Image.open(request.pictures_folder / Path(answer.text)) as file:
            picture = file.convert("RGB")
        each.append({"CLIP score": scorers.clip.add(picture, answer.sample.text)})
        if scorers.fid is not None:
            scorers.fid.add([picture], real=False)
            scorers.fid.add([real], real=True)
    if scorers.fid is not None and (number := sum(map(bool, each))) < 2:
        raise Failure(f"FID needs at least two real images, but only {number} of {len(each)} can be read.")
    fid = {} if scorers.fid is None else {"FID": scorers.fid.score()}
    return {"scores": fid | {"CLIP score": scorers.clip.score()}, "each": each}

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Runs a benchmark: divides batches among processes, saves answers during the run, and scores them at the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from rich.progress import Progress

from ..bundled import BUNDLED_CHECKPOINT
from ..lavit.atomic_files import locked
from ..tasks.failures import Failure, report
from ..tasks.images import run_beside
from ..tasks.loading import find_device, find_dtype, without_library_bars
from ..tasks.options import ModelOptions
from ..tasks.results import show_bar
from .benchmarks import Kind
from .options import EvaluationOptions
from .processes import Processes
from .requests import EvaluationRequest, request_evaluation
from .results import add_to_table, describe_tokens, describe_versions, write_result
from .samples import Sample
from .scoring import Answer, PictureScorers, score_pictures, score_texts
from .texts import TextWriter


if TYPE_CHECKING:
    from .paintings import PictureWriter


def evaluate(options: EvaluationOptions) -> dict[str, Any] | None:
    """
    Evaluates a model on a benchmark, with the original's protocol.

    The result is saved as `task.json` in the output folder, and a line is added to `results.csv` there. Starting an
    interrupted run again resumes it. With `accelerate launch`, several processes share the work, with the same result.

    Args:
        options (`EvaluationOptions`):
            The benchmark, data, model and settings.

    Returns:
        `dict` or `None`: the result in the main process, `None` in all others.

    Raises:
        Failure: If something is missing or does not match, or a result with other settings would be overwritten.

    Example:

    ```python
    >>> from pathlib import Path
    >>> from lavit_hf.evaluation import EvaluationOptions, evaluate
    >>> from lavit_hf.tasks.options import ModelOptions

    >>> result = evaluate(EvaluationOptions("coco", Path("coco"), ModelOptions("lavit-7b")))
    >>> result["scores"]["CIDEr"], result["tokens_per_image"]["mean"]
    ```
    """
    return run_evaluation(request_evaluation(options))


def run_evaluation(request: EvaluationRequest) -> dict[str, Any] | None:
    """
    Runs a checked evaluation.

    Args:
        request (`EvaluationRequest`):
            The evaluation.

    Returns:
        `dict` or `None`: the result in the main process, `None` in all others.
    """
    processes = Processes(request.options.model.device)
    options = replace(request.options.model, device=processes.device)
    result = request.read_result()
    processes.wait()
    with without_library_bars():
        scorers = None if result else _load_scorers(request, processes, find_device(options.device))
        with _alone(request, processes):
            if result is None:
                _write_answers(request, processes, options, scorers)
            processes.wait()
            return _finish(request, result or _score(request, scorers)) if processes.is_main else None


@contextmanager
def _alone(request: EvaluationRequest, processes: Processes) -> Iterator[None]:
    """Locks the run, so that no other run writes the same answers."""
    if not processes.is_main:
        yield
        return
    try:
        with locked(request.journal.folder / "lock", wait=False):
            yield
    except BlockingIOError as error:
        raise Failure(f"another run is writing {request.result_path}. Wait for it, or stop it.") from error


def _load_scorers(request: EvaluationRequest, processes: Processes, device: torch.device) -> PictureScorers:
    """Loads the scorers of images. Done before loading the model, so that missing files are found early."""
    if request.benchmark.kind is not Kind.pictures:
        return PictureScorers(None, None)
    from .picture_scores import ClipScorer, FidScorer

    scored = request.benchmark.scored and processes.is_main
    fid = FidScorer(request.options.fid_weights, device) if scored and request.options.fid else None
    needs_clip = scored or request.protocol.candidates > 1
    return PictureScorers(ClipScorer(request.options.clip, device) if needs_clip else None, fid)


def _write_answers(
    request: EvaluationRequest, processes: Processes, options: ModelOptions, scorers: PictureScorers
) -> None:
    """Generates the missing batches of this process's share."""
    journal = request.journal
    if processes.is_main:
        journal.start(request.settings)
    processes.wait()
    done = journal.read()
    processes.wait()  # else a process could read batches that another has just written
    missing = [number for number in range(len(request.batches)) if number not in done]
    mine = missing[processes.rank :: processes.count]
    writer = _make_writer(request, options, scorers)
    with show_bar("batches", wanted=processes.is_main) as progress:
        for batch in _work(request, writer, mine, progress):
            journal.append(processes.rank, batch)


def _make_writer(
    request: EvaluationRequest, options: ModelOptions, scorers: PictureScorers
) -> "TextWriter | PictureWriter":
    if request.benchmark.kind is Kind.pictures:
        from .paintings import PictureWriter  # imports diffusers

        return PictureWriter(
            request.benchmark, request.protocol, request.pictures_folder, request.repo, options, scorers.clip
        )
    return TextWriter(request.samples, request.protocol, request.repo, options)


def _work(
    request: EvaluationRequest, writer: "TextWriter | PictureWriter", numbers: Sequence[int], progress: Progress | None
) -> Iterator[dict[str, Any]]:
    """Generates batches by number, and reads the images of the next batch in the meantime."""
    task = None if progress is None else progress.add_task("", total=len(numbers))
    wait_for_batch = run_beside(lambda: _prepare(writer, request.batches[numbers[0]])) if numbers else None
    for place, number in enumerate(numbers):
        samples, prepared, skipped = wait_for_batch()
        if place + 1 < len(numbers):
            following = request.batches[numbers[place + 1]]
            wait_for_batch = run_beside(lambda following=following: _prepare(writer, following))
        for entry in skipped:
            report(f"skipped {entry['picture']}: {entry['reason']}")
        generator = torch.Generator(find_device(writer.options.device)).manual_seed(request.options.seed + number)
        if samples:
            writer.load()
        started = time.perf_counter()
        answers = writer.write(samples, prepared, generator) if samples else []
        yield {
            "number": number,
            "seconds": time.perf_counter() - started,
            "answers": {sample.id: answer for sample, answer in zip(samples, answers)},
            "skipped": skipped,
        }
        if progress is not None:
            progress.advance(task)


def _prepare(
    writer: "TextWriter | PictureWriter", batch: Sequence[Sample]
) -> tuple[list[Sample], list[Any], list[dict[str, str]]]:
    """Returns the readable samples of a batch, the model's inputs for them, and the skipped samples."""
    samples, prepared, skipped = [], [], []
    for sample in batch:
        try:
            prepared.append(writer.prepare(sample))
        except ValueError as error:
            skipped.append(_skipped(sample, error))
        else:
            samples.append(sample)
    return samples, prepared, skipped


def _skipped(sample: Sample, error: ValueError) -> dict[str, str]:
    return {"id": sample.id, "picture": sample.picture, "reason": str(error)}


def _finish(request: EvaluationRequest, result: dict[str, Any]) -> dict[str, Any]:
    """Writes the result and the table, even if the result exists, as an earlier run may have been killed by then."""
    write_result(request.result_path, result)
    add_to_table(request.table_path, result)
    request.journal.remove()
    return result


def _score(request: EvaluationRequest, scorers: PictureScorers) -> dict[str, Any]:
    """Scores all answers."""
    batches = request.journal.read().values()
    fields = {id: answer for batch in batches for id, answer in batch["answers"].items()}
    skipped = [entry for batch in batches for entry in batch["skipped"]]
    answers = [Answer(sample, fields[sample.id]) for sample in request.samples.rows if sample.id in fields]
    if not answers:
        request.journal.remove()  # so that it can be retried with other images
        raise Failure(f"none of the {len(request.samples.rows):,} images can be read.")
    if request.benchmark.kind is Kind.pictures:
        scored = score_pictures(
            request, answers, scorers, lambda sample, error: skipped.append(_skipped(sample, error))
        )
    else:
        scored = score_texts(request, answers)
    each = scored.pop("each")
    return {
        **request.settings,
        "model": request.options.model.model or BUNDLED_CHECKPOINT,
        "number": len(request.samples.rows) - len(skipped),
        **scored,
        "left_out": request.left_out,
        "skipped": sorted(skipped, key=lambda entry: entry["id"]),
        "tokens_per_image": describe_tokens(_count_tokens(answers)),
        "seconds": sum(batch["seconds"] for batch in batches),
        "computed_in": str(find_dtype(request.repo, request.options.model)).removeprefix("torch."),
        "versions": describe_versions(),
        "answers": [
            {"id": answer.sample.id, "picture": answer.sample.picture, **answer.fields, **scores}
            for answer, scores in zip(answers, each)
        ],
    }


def _count_tokens(answers: Sequence[Answer]) -> list[int]:
    """Counts the tokens of each image, once if it has several questions. A prompt may have several images."""
    counts = {answer.sample.picture or answer.sample.id: answer.fields["tokens"] for answer in answers}
    return [count for group in counts.values() for count in (group if isinstance(group, list) else [group])]

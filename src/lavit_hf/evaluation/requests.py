# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Checks the options of an evaluation before torch is imported, which takes seconds."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..tasks.failures import Failure
from ..tasks.model_kinds import is_bundled
from ..tasks.repo_files import open_repo
from ..tasks.requests import find_model
from ..tasks.saving import check_free
from . import requirements
from .benchmarks import Benchmark, Kind, find_benchmark, read_samples
from .identity import check_same, digest_configuration, digest_samples, identify_weights
from .journal import Journal
from .options import EvaluationOptions, Tokenizer
from .protocols import PaintingProtocol, TextProtocol, find_protocol
from .results import TABLE_NAME, check_table
from .samples import Sample, Samples


@dataclass(frozen=True)
class EvaluationRequest:
    """
    A checked evaluation that can be run.

    Args:
        options (`EvaluationOptions`):
            The options.
        benchmark (`Benchmark`):
            The benchmark.
        protocol (`TextProtocol` or `PaintingProtocol`):
            The protocol.
        samples (`Samples`):
            The samples.
        repo (`str`):
            The model's repo.
        settings (`dict`):
            Settings that the answers depend on. A result with other settings is never overwritten.
        left_out (`dict[str, str]`):
            Scores that are omitted, with reasons.
    """

    options: EvaluationOptions
    benchmark: Benchmark
    protocol: TextProtocol | PaintingProtocol
    samples: Samples
    repo: str
    settings: dict[str, Any]
    left_out: dict[str, str]

    @property
    def result_path(self) -> Path:
        """File of the result."""
        return _result_path(self.options)

    @property
    def table_path(self) -> Path:
        """Table to which a line is added."""
        return self.options.output / TABLE_NAME

    @property
    def pictures_folder(self) -> Path:
        """Folder of generated images."""
        return _pictures_folder(self.options)

    @property
    def journal(self) -> Journal:
        """Journal of the answers so far."""
        return _journal(self.options)

    @cached_property
    def batches(self) -> list[Sequence[Sample]]:
        """The samples in batches, with texts of similar length to reduce padding."""
        rows, size = sorted(self.samples.rows, key=lambda row: len(row.text or "")), self.options.batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def read_result(self) -> dict[str, Any] | None:
        """Reads the result, if it already exists."""
        return json.loads(self.result_path.read_text()) if self.result_path.exists() else None


def request_evaluation(options: EvaluationOptions) -> EvaluationRequest:
    """
    Checks an evaluation and finds everything it needs.

    Args:
        options (`EvaluationOptions`):
            The options.

    Returns:
        [`EvaluationRequest`].

    Raises:
        Failure: If the task, protocol, model, device or data does not exist, a requirement of a scorer is missing, the
            samples are too few for it, or there is already a result with other settings.
    """
    benchmark = find_benchmark(options.task)
    protocol = find_protocol(benchmark.protocols, options.protocol, options.task)
    left_out = _check_scorers(options, benchmark, protocol)
    check_free([options.output / TABLE_NAME], force=True)
    check_table(options.output / TABLE_NAME)
    repo = find_model(options.model)
    if isinstance(protocol, PaintingProtocol):
        _check_paints(repo, protocol, options)
    samples = read_samples(options.task, options.data, options.split, options.column, options.seed)
    samples = replace(samples, rows=samples.rows[: options.limit or benchmark.limit])
    _check_number(options, benchmark, samples)
    settings = _settings(options, protocol, samples, repo)
    _check_earlier(options, settings)
    return EvaluationRequest(options, benchmark, protocol, samples, repo, settings, left_out)


def _check_scorers(
    options: EvaluationOptions, benchmark: Benchmark, protocol: TextProtocol | PaintingProtocol
) -> dict[str, str]:
    """Checks the requirements of scorers. Returns the omitted scores, with reasons."""
    if benchmark.kind is Kind.questions:
        if protocol.lemmas:
            requirements.check_lemmas()
        return {}
    if benchmark.kind is Kind.captions:
        requirements.check_caption_scorers(needs_java=options.tokenizer is Tokenizer.ptb)
        return _check_spice(options)
    if benchmark.scored or protocol.candidates > 1:
        requirements.check_picture_scorers(benchmark.scored and options.fid, options.fid_weights, options.clip)
    return {}


def _check_number(options: EvaluationOptions, benchmark: Benchmark, samples: Samples) -> None:
    if benchmark.kind is Kind.pictures and benchmark.scored and options.fid and len(samples.rows) < 2:
        raise Failure("FID needs at least two images, but there is one. Raise --limit, or pass --no-fid.")


def _check_spice(options: EvaluationOptions) -> dict[str, str]:
    reason = "it was not requested." if options.spice is False else requirements.why_no_spice()
    if reason and options.spice:
        raise Failure(reason)
    return {"SPICE": reason} if reason else {}


def _check_paints(repo: str, protocol: PaintingProtocol, options: EvaluationOptions) -> None:
    unet = open_repo(repo).read_json("unet/config.json")
    if unet is None:
        raise Failure(f"{repo} has no pixel decoder. Convert it with --pixel-decoder highres or lowres.")
    if protocol.low_resolution and unet.get("addition_embed_type") is not None:
        raise Failure(
            f"the protocol {options.protocol!r} draws with the low-resolution decoder, but {repo} has the other. "
            "Convert it with --pixel-decoder lowres, or choose another --protocol."
        )


def _settings(
    options: EvaluationOptions, protocol: TextProtocol | PaintingProtocol, samples: Samples, repo: str
) -> dict[str, Any]:
    model = options.model
    return {
        "task": options.task,
        "protocol": {"name": options.protocol, **asdict(protocol)},
        "weights": _identify(model.model, repo),
        "configuration": _digest_configurations(model.model, repo),
        "seed": options.seed,
        "data": digest_samples(samples),
        "split": options.split,
        "limit": options.limit or find_benchmark(options.task).limit,
        "batch_size": options.batch_size,
        "dtype": model.dtype.value,
        "quantize": model.quantize and model.quantize.value,
        "scorers": _describe_scorers(options),
    }


def _identify(model: str | None, repo: str) -> str:
    """Identifies the weights of the base model, followed by those of an adapter if there is one."""
    return "+".join(map(identify_weights, _find_parts(model, repo)))


def _digest_configurations(model: str | None, repo: str) -> str:
    """Identifies the configurations of local repos. Those of the Hub are identified by the commit of the weights."""
    return "+".join(digest_configuration(Path(part)) for part in _find_parts(model, repo) if Path(part).is_dir())


def _find_parts(model: str | None, repo: str) -> list[str]:
    """Returns the base model, and the adapter if there is one."""
    return [repo] if is_bundled(model) or model == repo else [repo, model]


def _describe_scorers(options: EvaluationOptions) -> dict[str, Any]:
    kind = find_benchmark(options.task).kind
    if kind is Kind.captions:
        return {
            "tokenizer": options.tokenizer.value,
            "spice": requirements.why_no_spice() is None and options.spice is not False,
        }
    return {"fid": options.fid, "clip": options.clip} if kind is Kind.pictures else {}


def _check_earlier(options: EvaluationOptions, settings: dict[str, Any]) -> None:
    """Raises a [`Failure`] if results, answers or images with other settings would be overwritten."""
    path = _result_path(options)
    check_free([path], force=True)
    if path.exists():
        try:
            found = dict(json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise Failure(f"{path} is not the result of an evaluation. Choose another --output.") from error
        check_same(path, found, settings)
    _journal(options).check(settings)
    pictures = _pictures_folder(options)
    if pictures.exists() and not path.exists() and not _journal(options).is_there:
        raise Failure(f"{pictures} already exists. Delete it, or choose another --output.")


def _result_path(options: EvaluationOptions) -> Path:
    return options.output / f"{options.task}.json"


def _pictures_folder(options: EvaluationOptions) -> Path:
    return options.output / options.task


def _journal(options: EvaluationOptions) -> Journal:
    return Journal(options.output / f".{options.task}.unfinished")

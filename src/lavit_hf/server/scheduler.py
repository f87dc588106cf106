# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""One worker for one model: requests of one kind that wait together run as one batch."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any


logger = logging.getLogger(__name__)


class Full(Exception):
    """As many jobs wait as may."""


class Closed(Exception):
    """No job is taken any more."""


class Abandoned(Exception):
    """Raised by what runs a batch when nobody waits for it any more."""


@dataclass(eq=False)
class Job:
    """
    Work for the model.

    Args:
        inputs (`Any`):
            What to work on.
        run (`Callable`):
            Works on a batch: gets its jobs, returns a result for each, and may call their `tell` before. The same for
            all jobs of a kind.
        tell (`Callable`):
            Takes news of the job, results and exceptions included, on the worker's thread.
        kind (`Hashable`, *optional*):
            Jobs run together if theirs are equal.
        size (`int`, *optional*, defaults to 1):
            Its rows of a batch.
    """

    inputs: Any
    run: Callable[[Sequence["Job"]], Sequence[Any]]
    tell: Callable[[Any], None]
    kind: Hashable = None
    size: int = 1
    _left: threading.Event = field(default_factory=threading.Event)

    @property
    def is_left(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._left.is_set()

    def leave(self) -> None:
        """Says that nobody waits for it any more."""
        self._left.set()


@dataclass(frozen=True)
class Result:
    """
    The end of a job that went well.

    Args:
        value (`Any`):
            What came out.
    """

    value: Any


def check_wanted(jobs: Sequence[Job]) -> None:
    """Raises [`Abandoned`] if nobody waits for any of the jobs, to be called between the steps of their work."""
    if all(job.is_left for job in jobs):
        raise Abandoned


class Scheduler:
    """
    Runs jobs on a thread of its own, the oldest first and with it those of its kind.

    Args:
        max_waiting (`int`):
            Most jobs that wait.
        max_batch_size (`int`):
            Most rows of a batch. A job that is larger runs alone.
        batch_seconds (`float`):
            How long the first job of a batch waits for others, in seconds.
    """

    def __init__(self, max_waiting: int, max_batch_size: int, batch_seconds: float):
        self.max_waiting = max_waiting
        self.max_batch_size = max_batch_size
        self.batch_seconds = batch_seconds
        self._waiting: deque[Job] = deque()
        self._running: Sequence[Job] = ()
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._work, name="lavit-model", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """How many jobs are being worked on."""
        return len(self._running)

    def submit(self, job: Job) -> None:
        """
        Takes a job, whose `tell` gets a [`Result`] or an exception in the end.

        Raises:
            Full: If too many wait.
            Closed: If the scheduler is.
        """
        with self._changed:
            if not self._is_open:
                raise Closed
            if len(self._waiting) >= self.max_waiting:
                raise Full
            self._waiting.append(job)
            self._changed.notify_all()

    def leave(self, job: Job) -> None:
        """Gives a job up: one that waits frees its place, and a batch of nothing else ends at its next step."""
        job.leave()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self, seconds: float) -> None:
        """
        Turns away the jobs that wait, and waits for the batch that runs.

        Args:
            seconds (`float`):
                How long. What then still runs is given up.
        """
        with self._changed:
            self._is_open = False
            turned_away = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for job in turned_away:
            job.tell(Closed())
        self._thread.join(seconds)
        for job in self._running:
            job.leave()
        self._thread.join(seconds)

    def _work(self) -> None:
        while self._wait_for_jobs():
            # Jobs may have been given up while the first waited for others.
            if batch := self._take_batch():
                self._run(batch)
                self._running = ()

    def _wait_for_jobs(self) -> bool:
        """Waits for a job and those that join it. False when the scheduler is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._is_open)
            if self._waiting:
                first = self._waiting[0]
                self._changed.wait_for(lambda: self._is_full_for(first), self.batch_seconds)
            return self._is_open

    def _alike(self, first: Job) -> list[Job]:
        return [job for job in self._waiting if job.kind == first.kind]

    def _is_full_for(self, first: Job) -> bool:
        return not self._is_open or sum(job.size for job in self._alike(first)) >= self.max_batch_size

    def _take_batch(self) -> Sequence[Job]:
        """Takes the oldest job and those of its kind, as many as there is room for."""
        batch, rows = [], 0
        with self._changed:
            for job in self._alike(self._waiting[0]) if self._waiting else []:
                if batch and rows + job.size > self.max_batch_size:
                    break
                batch.append(job)
                rows += job.size
                self._waiting.remove(job)
            self._running = batch
        return batch

    def _run(self, batch: Sequence[Job]) -> None:
        start = time.monotonic()
        try:
            results = batch[0].run(batch)
        except Abandoned:
            return
        except Exception as error:
            if len(batch) > 1:  # one may be at fault, and the others are not to pay for it
                for job in batch:
                    self._run([job])
                return
            if not isinstance(error, ValueError):
                logger.exception("a request failed")
            batch[0].tell(error)
            return
        logger.info("%d requests in %.3f s", len(batch), time.monotonic() - start)
        for job, result in zip(batch, results, strict=True):
            job.tell(Result(result))


__all__ = ["Abandoned", "Closed", "Full", "Job", "Result", "Scheduler", "check_wanted"]

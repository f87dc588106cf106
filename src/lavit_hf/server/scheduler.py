# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A single worker for the model, which batches waiting requests of the same kind."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any


logger = logging.getLogger(__name__)


class Full(Exception):
    """Raised if the maximum number of jobs is waiting."""


class Closed(Exception):
    """Raised if the scheduler accepts no more jobs."""


class Abandoned(Exception):
    """Raised while running a batch if no client is waiting for it."""


@dataclass(eq=False)
class Job:
    """
    Work for the model.

    Args:
        inputs (`Any`):
            Inputs of the job.
        run (`Callable`):
            Runs a batch: receives its jobs, returns a result for each, and may call their `tell` before. Must be the
            same for all jobs of a kind.
        tell (`Callable`):
            Receives updates of the job, including its result or exception. Called on the worker's thread.
        kind (`Hashable`, *optional*):
            Jobs with equal kinds can run in one batch.
        size (`int`, *optional*, defaults to 1):
            Number of rows that it takes in a batch.
    """

    inputs: Any
    run: Callable[[Sequence["Job"]], Sequence[Any]]
    tell: Callable[[Any], None]
    kind: Hashable = None
    size: int = 1
    _left: threading.Event = field(default_factory=threading.Event)

    @property
    def is_left(self) -> bool:
        """Whether its client no longer waits for it."""
        return self._left.is_set()

    def leave(self) -> None:
        """Marks that its client no longer waits for it."""
        self._left.set()


@dataclass(frozen=True)
class Result:
    """
    The final update of a successful job.

    Args:
        value (`Any`):
            The result.
    """

    value: Any


def check_wanted(jobs: Sequence[Job]) -> None:
    """Raises [`Abandoned`] if no client is waiting for any of the jobs. Must be called between their steps."""
    if all(job.is_left for job in jobs):
        raise Abandoned


class Scheduler:
    """
    Runs jobs on its own thread: the oldest first, together with others of its kind.

    Args:
        max_waiting (`int`):
            Maximum number of waiting jobs.
        max_batch_size (`int`):
            Maximum number of rows in a batch. A larger job runs alone.
        batch_seconds (`float`):
            Time in seconds that the first job of a batch waits for others.
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
        """Number of waiting jobs."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Number of running jobs."""
        return len(self._running)

    def submit(self, job: Job) -> None:
        """
        Accepts a job. Its `tell` finally receives a [`Result`] or an exception.

        Raises:
            Full: If too many jobs are waiting.
            Closed: If the scheduler is closed.
        """
        with self._changed:
            if not self._is_open:
                raise Closed
            if len(self._waiting) >= self.max_waiting:
                raise Full
            self._waiting.append(job)
            self._changed.notify_all()

    def leave(self, job: Job) -> None:
        """Abandons a job. A waiting job is removed; a batch without other jobs ends at its next step."""
        job.leave()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self, seconds: float) -> None:
        """
        Rejects the waiting jobs, and waits for the running batch.

        Args:
            seconds (`float`):
                Maximum time to wait. The batch is then abandoned, and its jobs are rejected too.
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
            job.tell(Closed())
        self._thread.join(seconds)

    def _work(self) -> None:
        while self._wait_for_jobs():
            # Jobs may have been abandoned while the first waited for others.
            if batch := self._take_batch():
                self._run(batch)
                self._running = ()

    def _wait_for_jobs(self) -> bool:
        """Waits for a job and others of its kind. Returns false if the scheduler is closed."""
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
        """Takes the oldest job and as many others of its kind as fit into the batch."""
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
            if len(batch) > 1:  # a single job may have caused the error
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

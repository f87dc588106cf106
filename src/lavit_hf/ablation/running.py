# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Runs the steps of ablations in separate processes, each once, and resumes interrupted ones."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import BinaryIO

import yaml
from filelock import FileLock
from tqdm.auto import tqdm

from ..lavit.atomic_files import atomic_file
from ..tasks.failures import Failure
from .steps import Step


# Files in a step's folder, next to the step's own output.
DONE_NAME = "step.json"  # its settings, its duration in seconds, and whether it is done
SETTINGS_NAME = "step.yaml"
LOG_NAME = "step.log"
FIGURES_NAME = "figures.json"
LAST_LINE = 300  # maximum number of characters of a log's last line in an error


class Runner:
    """
    Runs steps.

    Args:
        jobs (`int`, *optional*, defaults to 1): Number of chains to run at once, which share the CPU cores.
    """

    def __init__(self, jobs: int = 1):
        self.jobs = jobs
        self._processes: set[subprocess.Popen] = set()
        self._stopped = threading.Event()
        self._starting = threading.Lock()  # no process starts once they have been stopped

    def run(self, chains: Sequence[Sequence[Step]]) -> None:
        """
        Runs chains of steps. Finished steps are skipped, and steps shared by several chains are run once.

        Args:
            chains (`Sequence[Sequence[Step]]`): The steps of each arm and seed, in order.

        Raises:
            Failure: If a step fails. The message names the step and its log. Other running steps are stopped, and
                resume with the next call.
        """
        bar = tqdm(total=sum(map(len, chains)), desc="steps", unit="step", disable=None)  # only on a terminal
        with _ending_on_sigterm(), bar, ThreadPoolExecutor(self.jobs) as pool:
            running = [pool.submit(self._run_chain, chain, bar) for chain in chains]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                self._stop(running)
                raise

    def _run_chain(self, chain: Iterable[Step], bar: tqdm) -> None:
        for step in chain:
            if self._stopped.is_set():
                return
            step.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(step.folder.with_suffix(".lock")):  # another chain or process may be running it
                if self._stopped.is_set():  # while this chain was waiting
                    return
                if not is_done(step):
                    bar.set_postfix_str(step.key)
                    self._run_step(step)
            bar.update()

    def _run_step(self, step: Step) -> None:
        settings = step.folder / SETTINGS_NAME
        with atomic_file(settings) as file:
            file.write_text(yaml.safe_dump(step.settings, sort_keys=False))
        started = time.monotonic()
        with open(step.folder / LOG_NAME, "ab") as log:
            process = self._start([sys.executable, str(step.script), str(settings)], log)
            if process is None:
                return
            code = process.wait()
            self._processes.discard(process)
        seconds = time.monotonic() - started + _record(step).get("seconds", 0.0)  # including earlier attempts
        record = {"done": code == 0, "seconds": seconds, "settings": step.settings}
        with atomic_file(step.folder / DONE_NAME) as file:
            file.write_text(json.dumps(record, indent=2) + "\n")
        if code and not self._stopped.is_set():
            self._stopped.set()  # before this thread starts the next chain
            raise Failure(f"the step {step.key} failed: {_last_line(step)} (its log is {step.folder / LOG_NAME})")

    def _start(self, command: list[str], log: BinaryIO) -> subprocess.Popen | None:
        with self._starting:
            if self._stopped.is_set():
                return None
            process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment())
            self._processes.add(process)
            return process

    def _environment(self) -> dict[str, str]:
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        return {"OMP_NUM_THREADS": str(threads), **os.environ}

    def _stop(self, running) -> None:
        with self._starting:
            self._stopped.set()
        for future in running:
            future.cancel()
        for process in list(self._processes):
            process.terminate()


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM end a run and its steps, as Ctrl-C does. Signal handlers can only be set in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_done(step: Step) -> bool:
    """Whether the step is done."""
    return _record(step).get("done", False)


def read_figures(step: Step) -> dict[str, float]:
    """
    Reads a step's figures, including `seconds`.

    Raises:
        Failure: If the step is not done.
    """
    record = _record(step)
    if not record.get("done"):
        raise Failure(f"the step {step.key} has not been run. Run the ablation first.")
    path = step.folder / FIGURES_NAME
    return (json.loads(path.read_text()) if path.exists() else {}) | {"seconds": record["seconds"]}


def _record(step: Step) -> dict:
    path = step.folder / DONE_NAME
    return json.loads(path.read_text()) if path.exists() else {}


def _last_line(step: Step) -> str:
    lines = (step.folder / LOG_NAME).read_text(errors="replace").strip().splitlines()
    return lines[-1][-LAST_LINE:] if lines else "no output"

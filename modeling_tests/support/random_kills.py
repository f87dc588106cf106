# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Kills runs of the training scripts at random moments, starts them again, and compares what they leave at their end with
what a run leaves that was never killed: the same bytes.

    python modeling_tests/support/random_kills.py --kills 100 --seed 0

Half of the kills come after a random time and half at a random file operation, each on one process, or on one of two
or both. A run goes on until its kills are used up; then it is started twice more, which must change nothing.
"""

import argparse
import hashlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
SUPPORT = Path(__file__).parent
sys.path[:0] = [str(SUPPORT), str(SUPPORT.parent)]

import torch  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402

from killed_runs import RUNS, Run, write_runs  # noqa: E402
from kills import KILLED, count_and_kill  # noqa: E402
from training_runs import load_script  # noqa: E402


# Not the run's result: what tells times, and settings with paths.
NOT_COMPARED = ("training_args.bin", "run.json")
NEVER = 10**9
PATIENCE = 300  # seconds that a run may take


def digests(output: Path) -> dict[str, str]:
    """The bytes of all that a run leaves but its checkpoints."""
    files = (path for path in output.rglob("*") if path.is_file())
    kept = (
        path
        for path in files
        if path.name not in NOT_COMPARED and not path.relative_to(output).parts[0].startswith("checkpoint-")
    )
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def start(run: Run, output: Path, number: int, kills: dict[int, int]) -> list[int]:
    """
    Starts a run on some processes, forked, since importing takes longer than running.

    Args:
        run (`Run`):
            What is run.
        output (`Path`):
            Where it writes.
        number (`int`):
            Number of processes.
        kills (`dict[int, int]`):
            The file operation at which a process, by its number, is killed.

    Returns:
        `list[int]`: the processes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    sys.stdout.flush()
    processes = []
    for rank in range(number):
        process = os.fork()
        if process:
            processes.append(process)
            continue
        code = 1
        try:
            log = os.open(output.with_name(f"{output.name}-{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if number > 1:
                places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
                os.environ.update({name: str(value) for name, value in places.items()})
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, ACCELERATE_USE_CPU="true")
            AcceleratorState._reset_state(reset_partial_state=True)  # what preparing the runs has left
            torch.set_num_threads(1)
            script = load_script(run.script)
            sys.argv = [script.__file__, str(run.file), *run.arguments(output, number)]
            count = count_and_kill(output, kills.get(rank, NEVER))
            script.main()
            code = 0
            if rank == 0:
                _operations(output).write_text(str(count()))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return processes


def wait(processes: list[int], seconds: float, struck: list[int]) -> list[int]:
    """
    Waits for the processes to end, and kills some after a time. Where one has ended badly, its launcher would end the
    others, and so does this.

    Returns:
        `list[int]`: their exit codes.
    """
    begin, codes = time.monotonic(), {}
    while len(codes) < len(processes):
        for process in set(processes) - codes.keys():
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                codes[process] = os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - begin
        victims = [processes[index] for index in struck] if passed > seconds else []
        if any(codes.values()) or passed > PATIENCE:
            victims = processes
        for process in set(victims) - codes.keys():
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return [codes[process] for process in processes]


def run_to_end(run: Run, output: Path, number: int) -> float:
    """Runs without a kill, and gives the seconds that it took."""
    begin = time.monotonic()
    codes = wait(start(run, output, number, {}), PATIENCE, [])
    if any(codes):
        log = output.with_name(f"{output.name}-0.log").read_text()
        raise RuntimeError(f"{run.name} on {number} processes ended by {codes}:\n{log[-3000:]}")
    return time.monotonic() - begin


def _operations(output: Path) -> Path:
    return output.with_name(f"{output.name}-operations")


def kill_once(run: Run, output: Path, number: int, seconds: float, operations: int, generator: random.Random) -> bool:
    """Runs with a kill, and tells whether it came to it before the run's end."""
    struck = generator.choice([[0], [number - 1], list(range(number))])
    if generator.random() < 0.5:
        codes = wait(start(run, output, number, {}), generator.uniform(0, seconds), struck)
    else:
        kills = {index: generator.randrange(operations) for index in struck}
        codes = wait(start(run, output, number, kills), PATIENCE, [])
    bad = [code for code in codes if code not in (0, KILLED, -signal.SIGKILL)]
    if bad and number == 1:
        log = output.with_name(f"{output.name}-0.log").read_text()
        raise RuntimeError(f"{run.name} ended by {codes}, and not by a kill:\n{log[-3000:]}")
    return any(codes)


def compare(expected: dict[str, str], output: Path, what: str) -> list[str]:
    """What differs, in words."""
    found = digests(output)
    changed = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return [f"{what}: {name}" for name in changed]


def share(kills: int, parts: int, generator: random.Random) -> list[int]:
    """Kills shared out over runs, the rest to some at random."""
    counts = [kills // parts] * parts
    for index in generator.sample(range(parts), kills % parts):
        counts[index] += 1
    return counts


def check(
    folder: Path, kills: int, seed: int, names: list[str], processes: list[int]
) -> Iterator[tuple[str, int, list]]:
    """
    Kills all runs in turn.

    Returns:
        `Iterator`: of each, its name, how many kills hit it, and what differs.
    """
    generator = random.Random(seed)
    runs = {run.name: run for run in write_runs(folder, names)}
    parts = [(runs[name], number) for name in names for number in processes]
    for (run, number), count in zip(parts, share(kills, len(parts), generator)):
        if not count:
            continue
        whole, cut = folder / f"{run.name}-{number}-whole", folder / f"{run.name}-{number}-cut"
        seconds = run_to_end(run, whole, number)
        expected, hits, operations = digests(whole), 0, int(_operations(whole).read_text())
        for _ in range(count):
            hits += kill_once(run, cut, number, seconds, operations, generator)
        wrong = []
        for times in ("at its end", "started again", "and again"):
            run_to_end(run, cut, number)
            wrong += compare(expected, cut, f"{run.name} on {number}, {times}")
        yield f"{run.name} on {number}", hits, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--folder", type=Path, help="Where the runs are kept; by default they are removed.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        differences, hits = [], 0
        place = args.folder or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name, count, wrong in check(place, args.kills, args.seed, args.runs, args.processes):
            print(f"{name}: {count} kills, {len(wrong)} files differ", flush=True)
            hits, differences = hits + count, differences + wrong
    print(f"{hits} kills in all")
    sys.exit("\n".join(differences) or 0)


if __name__ == "__main__":
    main()

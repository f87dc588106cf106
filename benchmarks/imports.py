# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures what `import lavit_hf` adds to the import of a transformers model, in CPU time, which varies less on a busy
machine than wall-clock time.
"""

import statistics
import subprocess
import sys
from typing import Annotated

import typer
from timing import print_machine, print_table


BARE = "from transformers import LlamaForCausalLM"
STATEMENTS = {
    BARE: BARE,
    "import lavit_hf": "import lavit_hf",
    "the same with a model class": "from lavit_hf import LaVITForCausalLM",
    "the same with the pipeline class": "from lavit_hf import LaVITPipeline",
}
AFTERWARDS = "import lavit_hf, after the transformers model"
AIM = 0.2  # seconds

CLOCK = """
import time
{before}
start = time.process_time()
{statement}
print(time.process_time() - start)
"""


def import_seconds(statement: str, before: str = "") -> float:
    """CPU time of a statement in a new Python process, after another statement."""
    code = CLOCK.format(statement=statement, before=before)
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main(repeats: Annotated[int, typer.Option(help="Number of timed runs.", min=1)] = 7) -> None:
    """Time the imports in turn, and print the result next to the target."""
    print_machine()
    runs = {AFTERWARDS: [], **{name: [] for name in STATEMENTS}}
    for number in range(repeats + 1):
        found = {AFTERWARDS: import_seconds(STATEMENTS["import lavit_hf"], before=BARE)}
        found |= {name: import_seconds(statement) for name, statement in STATEMENTS.items()}
        if number > 0:  # the first run fills the disk cache
            for name, seconds in found.items():
                runs[name].append(seconds)
    rows = [(name, f"{statistics.median(seconds):.2f}", f"{min(seconds):.2f}") for name, seconds in runs.items()]
    print_table(("import", "seconds, median", "minimum"), rows)
    added = statistics.median(runs[AFTERWARDS])
    print(f"`import lavit_hf` adds {added:.2f} s to `{BARE}` (target: at most {AIM} s).")


if __name__ == "__main__":
    typer.run(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A run that is killed and started again ends in the bytes of one that was never stopped."""

import os
import subprocess
import sys

import pytest

from training_runs import SUPPORT


KILLS, SEED = 10, 0


@pytest.mark.slow
def test_random_kills():
    """All scripts share the kills, on one process and on two; `random_kills.py --kills 100` takes more of them."""
    for module in ("peft", "vector_quantize_pytorch"):
        pytest.importorskip(module)
    command = [sys.executable, str(SUPPORT / "random_kills.py"), f"--kills={KILLS}", f"--seed={SEED}"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    print(result.stdout)

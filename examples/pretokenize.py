# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Converts images to codes and features in parquet shards, so that stage 2 doesn't run the encoder.

    accelerate launch examples/pretokenize.py examples/runs/emoji_pretokenize.yaml

Images are read from a folder, the Hub or WebDataset shards (`--input 'shards/{0000..9999}.tar'`). Any number of
processes can share the work, and any number of jobs, such as those of a SLURM array:

    python examples/pretokenize.py examples/runs/7b_pretokenize.yaml --part $SLURM_ARRAY_TASK_ID/64

An interrupted run resumes with the first missing shard. pretokenize_ray.py does the same on a Ray cluster.
"""

from accelerate import PartialState

from lavit_hf.training.command_line import run_script
from lavit_hf.training.pretokenize_run import PretokenizeRun, PretokenizeSettings
from lavit_hf.training.settings import load_settings


def main() -> None:
    """Tokenize all splits."""
    (settings,) = load_settings(PretokenizeSettings)
    state = PartialState(cpu=settings.use_cpu)
    for split in settings.splits:
        run = PretokenizeRun(settings, split)
        shards = run.write_all()
        if state.is_main_process:
            print(run.report(shards))


if __name__ == "__main__":
    run_script(main)

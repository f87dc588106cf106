# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Like pretokenize.py, but runs on a Ray cluster with a shared file system (`pip install '.[ray]'`):

    python examples/pretokenize_ray.py examples/runs/7b_pretokenize.yaml --workers 64 --address auto

The shards are the same. Without `--address`, Ray starts on this machine. An interrupted run resumes with the missing
shards.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import ray

from lavit_hf.training.command_line import run_script
from lavit_hf.training.pretokenize_run import PretokenizeRun, PretokenizeSettings
from lavit_hf.training.settings import load_settings
from lavit_hf.training.shards import Shard


@dataclass
class ClusterSettings:
    """Settings of the cluster."""

    workers: int = field(default=1, metadata={"help": "Number of workers, each of which loads the visual tokenizer."})
    gpus_per_worker: float = field(default=1.0, metadata={"help": "Number of GPUs per worker; ignored with use_cpu."})
    address: str | None = field(default=None, metadata={"help": "Address of the cluster, such as auto."})


class ShardWriter:
    """A worker that loads the visual tokenizer once, and writes a shard for each row of a batch."""

    def __init__(self, settings: PretokenizeSettings, split: str):
        self.run = PretokenizeRun(settings, split)

    def __call__(self, batch: dict) -> dict:
        for path, start, stop in zip(batch["path"], batch["start"], batch["stop"]):
            self.run.write(Shard(Path(path), range(start, stop)))
        return {"path": batch["path"]}


def write_split(settings: PretokenizeSettings, cluster: ClusterSettings, split: str) -> str:
    """Lets the workers write the missing shards of a split, and returns a report on all shards."""
    run = PretokenizeRun(replace(settings, use_cpu=True), split)  # the GPUs are for the workers
    shards = run.prepare()
    missing = [
        {"path": str(shard.path.absolute()), "start": shard.rows.start, "stop": shard.rows.stop}
        for shard in shards
        if not shard.path.exists()
    ]
    if missing:
        ray.data.from_items(missing, override_num_blocks=len(missing)).map_batches(
            ShardWriter,
            fn_constructor_args=(settings, split),
            batch_size=1,
            concurrency=min(cluster.workers, len(missing)),
            num_gpus=0 if settings.use_cpu else cluster.gpus_per_worker,
        ).materialize()
    return run.report(shards)


def main() -> None:
    """Tokenize all splits."""
    settings, cluster = load_settings(PretokenizeSettings, ClusterSettings)
    ray.init(address=cluster.address, ignore_reinit_error=True)
    for split in settings.splits:
        print(write_split(settings, cluster, split))


if __name__ == "__main__":
    run_script(main)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Measures the memory of a process: private memory, and memory including memory-mapped files."""

import re
import resource
import threading
from pathlib import Path


class PeakMemory:
    """
    Measures the peak private memory of the process while a block runs: `peak` in total, `bytes` on top of what was
    used before. Memory-mapped files, which the operating system can evict, don't count.
    """

    def __enter__(self) -> "PeakMemory":
        self.before = self.peak = own_bytes()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.done.set()
        self.thread.join()
        self.bytes = self.peak - self.before

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, own_bytes())


def own_bytes() -> int:
    """Private memory of the process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def peak_resident_bytes() -> int:
    """Peak memory of the process so far in bytes, including memory-mapped files."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How much memory a process takes: what it holds for itself, and that with the files mapped into it."""

import re
import resource
import threading
from pathlib import Path


class PeakMemory:
    """
    Largest number of bytes that the process held for itself while the block ran: `peak` in all, `bytes` above what it
    held before. Files mapped into memory are the system's to keep or drop, and not counted.
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
    """What the process holds for itself now."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def peak_resident_bytes() -> int:
    """The most that the process has had in memory so far, mapped files included."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

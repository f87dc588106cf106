# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the fuzzers share: how many cases, the rule that each is checked by, and how files and values are spoiled."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lavit_hf.lavit.untrusted_files import MAX_MESSAGE_LENGTH


# `make fuzz CASES=10000`; a few without.
CASES = int(os.environ.get("LAVIT_FUZZ_CASES", "0"))

# What a stranger may write in the place of a value. No size is of the kind that fills memory and is still possible.
HOSTILE_VALUES = (
    *(None, True, 0, -1, 3, 10**30, -(10**30), 0.5, 1e308, "", "x", "x" * 5000, "\ud800", "\0", "a\nb"),
    *("../../etc/passwd", "/etc/passwd", "NaN", [], {}, [None], [[]], {"a": 1}, [1, "a", {}], {"": None}),
    json.loads("[" * 200 + "]" * 200),
)


def limited(short: int, share: float = 1.0):
    """Decorates a fuzzer: the cases of a short run, and its share of those of a long one."""
    return settings(
        max_examples=max(1, int(CASES * share)) if CASES else short,
        derandomize=not CASES,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


def check_rule(call: Callable[[], Any], allowed: tuple[type[Exception], ...], named: str = "") -> Any:
    """A result, or an error of an allowed class that names what is wrong in no more than a screen."""
    try:
        return call()
    except allowed as error:
        message = str(error)
        assert 0 < len(message) <= MAX_MESSAGE_LENGTH + 200, f"a message of {len(message)} characters"
        assert named in message, f"{named!r} is not named: {message}"
        message.encode()
        return None


# A seed for `random`, which is shorter to draw than all that it decides.
seeds = st.integers(0, 2**32 - 1).map(random.Random)


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Cut, empty, flipped, with something put in, or something else altogether."""
    place = rng.randrange(len(content) + 1)
    kind = rng.choice(["cut", "flip", "insert", "repeat", "other"])
    if kind == "cut":
        return content[:place]
    if kind == "flip":
        spoilt = bytearray(content)
        for _ in range(min(len(content), rng.choice([1, 3, 30]))):
            spoilt[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(spoilt)
    if kind == "insert":
        return content[:place] + rng.randbytes(rng.choice([1, 4, 100])) + content[place:]
    if kind == "repeat":
        return content + content[:place]
    return rng.choice([b"", b"\0", b"[" * 100_000, b'{"a":' * 5000, b"\xff\xfe{}", b"null", b"5", rng.randbytes(50)])


def spoil_json(content: bytes, rng: random.Random) -> bytes:
    """A value replaced, a key removed, renamed or doubled; or the bytes."""
    kind = rng.choice(["replace", "replace", "replace", "remove", "rename", "double", "number", "bytes"])
    if kind == "bytes":
        return spoil_bytes(content, rng)
    if kind == "number":
        return content.replace(b"1", rng.choice([b"NaN", b"-Infinity", b"1e999", b"1" * 5000]), 1)
    data = json.loads(content)
    holder, key = rng.choice(_places(data, rng))
    if kind == "replace":
        holder[key] = rng.choice(HOSTILE_VALUES)
    elif kind == "remove":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        holder[rng.choice(["", "\ud800", "x" * 3000, "a.999999999.b", "../x"])] = holder.pop(key)
    text = json.dumps(data)
    return (text if kind != "double" else text[:-1] + ", " + text[1:]).encode()


def _places(data: Any, rng: random.Random) -> list[tuple[Any, Any]]:
    """Where values are: those of the top, and of a way down."""
    places = []
    while isinstance(data, dict | list) and data:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        places += [(data, key) for key in rng.sample(keys, min(8, len(keys)))]
        data = data[rng.choice(keys)]
    return places


class SpoiltFolder:
    """A copy of a folder of which files are replaced; those that are not are links to the same bytes."""

    def __init__(self, original: Path, parent: Path):
        self.original = shutil.copytree(original, parent / "whole")
        self.path = parent / "spoilt"

    def renew(self) -> Path:
        shutil.rmtree(self.path, ignore_errors=True)
        return shutil.copytree(self.original, self.path, copy_function=os.link)

    def replace(self, name: str, content: bytes) -> None:
        (self.path / name).unlink()
        (self.path / name).write_bytes(content)

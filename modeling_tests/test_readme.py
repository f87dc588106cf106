# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Every Python snippet of the README runs, one after the other, on the shipped checkpoint."""

import re
from pathlib import Path


ROOT = Path(__file__).parents[1]


def test_snippets(tmp_path, monkeypatch):
    snippets = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) > 4
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert (tmp_path / "duck.png").stat().st_size > 0

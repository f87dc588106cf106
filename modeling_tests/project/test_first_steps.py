# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks/first_steps.py takes from the pages."""

import pytest

from benchmark_scripts import load_benchmark
from documents import ROOT


PAGE = """# Page

## First

<!-- not run: takes minutes -->
```python
a = 1
```

```yaml
# run.yaml
model: here
```

<!-- not run: installs packages -->
```bash
pip install .
```

## Second

```bash
lavit draw "a cat" \\
    --seed 0
lavit info
```

```python
print(a)
```

<!-- not run: needs the 26 GB weights -->
```bash
lavit convert LaVIT-7B-v2 lavit-7b
```
"""


@pytest.fixture(scope="module")
def first_steps():
    return load_benchmark("first_steps")


def test_steps_of_a_page(first_steps, tmp_path):
    steps = list(first_steps.read_steps(PAGE, None, tmp_path))
    assert [(step.heading, step.command) for step in steps] == [
        ("First", ["python", "-c", "a = 1\n"]),
        ("Second", ["bash", "-c", 'lavit draw "a cat"     --seed 0']),
        ("Second", ["bash", "-c", "lavit info"]),
        ("Second", ["python", "-c", "a = 1\nprint(a)\n"]),
    ]
    assert (tmp_path / "run.yaml").read_text() == "# run.yaml\nmodel: here\n"


def test_sections_that_are_asked_for(first_steps, tmp_path):
    steps = list(first_steps.read_steps(PAGE, ("Second",), tmp_path))
    assert {step.heading for step in steps} == {"Second"} and len(steps) == 3
    assert not list(tmp_path.iterdir())


def test_pages_have_the_sections(first_steps, tmp_path):
    """Each of them with something to run."""
    for page, headings in first_steps.PAGES.items():
        found = {step.heading for step in first_steps.read_steps((ROOT / page).read_text(), headings, tmp_path)}
        assert found == set(headings or found) and found


def test_step_that_fails_ends_all(first_steps, tmp_path):
    step = first_steps.Step("Second", "false", ["bash", "-c", "echo no such model >&2; false"])
    with pytest.raises(SystemExit, match="`false` failed:\nno such model"):
        first_steps.run_step(step, tmp_path, {})

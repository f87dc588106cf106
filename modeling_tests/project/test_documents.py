# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Every block of code in the documents runs and prints what the page says, or is excused; links lead somewhere."""

import ast
from pathlib import Path

import pytest
import torch

from documents import PAGES, ROOT, Block, find_missing_files, prepare_folder, read_blocks, read_links, run_blocks


PAGE_NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
WITH_CODE = [name for name in PAGE_NAMES if any(not block.excuse for block in read_blocks((ROOT / name).read_text()))]
FRONT = "README.md"


def test_pages_are_found():
    assert {FRONT, "docs/tour.md", "docs/train.md", "examples/README.md"} <= set(WITH_CODE)


@pytest.mark.parametrize(
    "page", [FRONT, *(pytest.param(name, marks=pytest.mark.slow) for name in WITH_CODE if name != FRONT)]
)
def test_blocks_run(page, tmp_path, monkeypatch):
    prepare_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    run_blocks(page, [block for block in read_blocks((ROOT / page).read_text()) if not block.excuse])


@pytest.mark.parametrize("page", PAGE_NAMES)
def test_links_lead_somewhere(page):
    path = ROOT / page
    links = read_links(path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGE_NAMES)
def test_named_files_exist(page):
    assert find_missing_files((ROOT / page).read_text(), (ROOT / page).parent) == []


def test_files_named_in_examples_exist():
    """In what the scripts say of themselves and in the comments of run files."""
    files = [*ROOT.glob("examples/**/*.py"), *ROOT.glob("examples/**/*.sh"), *ROOT.glob("examples/runs/*.yaml")]
    missing = {}
    for path in files:
        text = path.read_text()
        text = (ast.get_docstring(ast.parse(text)) or "") if path.suffix == ".py" else text
        if names := find_missing_files(text, path.parent):
            missing[path.name] = names
    assert len(files) > 40 and missing == {}


def _option_names(script: Path) -> set[str]:
    """The options of a script, as typer names them after the arguments of its functions."""
    arguments = (node.arg for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.arg))
    return {f"--{name.replace('_', '-')}" for name in arguments}


@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/emoji/*.py")), ids=lambda path: path.name)
def test_options_in_usage_exist(script):
    """What a script says of how to call it names options that it has."""
    text = (ast.get_docstring(ast.parse(script.read_text())) or "").replace("\\\n", " ")
    calls = [line.split(script.name, 1)[1] for line in text.splitlines() if f"examples/emoji/{script.name}" in line]
    named = {word for call in calls for word in call.split() if word.startswith("--")}
    assert named <= _option_names(script)


class TestRule:
    """The rule itself: what is run, what is excused, and what is neither."""

    def test_excuse_stands_right_above(self):
        fence = "```bash\nfalse\n```\n"
        page = f"<!-- not run: needs\na GPU -->\n{fence}\n<!-- not run: never -->\n\n{fence}\n<!-- note -->\n{fence}"
        assert [block.excuse for block in read_blocks(page)] == ["needs\na GPU", "never", None]

    def test_excuse_needs_a_reason(self):
        assert [block.excuse for block in read_blocks("<!-- not run: -->\n```bash\nfalse\n```\n")] == [None]

    def test_blocks_share_a_session(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        page = (
            "```python\nword = 'cat'\n```\n```bash\necho dog > animals  # made here\n```\n"
            "- in a list\n\n  ```python\n  Path('animals').open('a').write(word)\n  ```\n"
        )
        run_blocks("page.md", [Block("python", "from pathlib import Path", 1, None), *read_blocks(page)])
        assert Path("animals").read_text() == "dog\ncat"

    def test_scripts_run_as_main(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "copy.py").write_text(
            "import sys\nif __name__ == '__main__':\n    print(sys.argv[1:], file=open('out', 'w'))\n"
        )
        run_blocks("page.md", [Block("bash", "python copy.py --a \\\n  'b c'  # a note\n", 1, None)])
        assert Path("out").read_text() == "['--a', 'b c']\n"
        (tmp_path / "fails.py").write_text("raise SystemExit('no')")
        with pytest.raises(AssertionError, match="no"):
            run_blocks("page.md", [Block("bash", "python fails.py", 1, None)])

    @pytest.mark.parametrize(
        "code",
        ["```python\nprint('cat')\n```", "```bash\nprintf 'c\\nat' | tr -d '\\n'\n```", "```bash\npython cat.py\n```"],
    )
    def test_outputs_are_compared(self, code, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("cat.py").write_text("print('cat')")
        page = code + "\n\n<!-- output -->\n```text\n{}\n```\n"
        run_blocks("page.md", read_blocks(page.format("cat")))
        with pytest.raises(AssertionError, match="prints\ncat"):
            run_blocks("page.md", read_blocks(page.format("dog")))

    def test_yaml_with_a_name_is_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run_blocks(
            "page.md", [Block("yaml", "# run.yaml\na: 1\n", 1, None), Block("yaml", "# a note\nb: 2\n", 4, None)]
        )
        assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]

    @pytest.mark.parametrize(
        ("block", "error"),
        [
            (Block("python", "1 / 0", 7, None), ZeroDivisionError),
            (Block("bash", "true | false | true", 1, None), AssertionError),
            (Block("bash", "lavit tokenize nowhere.png", 1, None), AssertionError),
            (Block("bash", "python nowhere.py", 1, None), FileNotFoundError),
            (Block("yaml", "a: [", 1, None), Exception),
            (Block("json", "{", 1, None), ValueError),
            (Block("", "make", 1, None), ValueError),
        ],
    )
    def test_what_fails(self, block, error, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(error):
            run_blocks("page.md", [block])

    def test_lines_of_tracebacks_are_the_pages(self):
        (block,) = read_blocks("# Page\n\n```python\nnothing\n```\n")
        with pytest.raises(NameError) as error:
            run_blocks("page.md", [block])
        assert error.traceback[-1].lineno + 1 == 4

    def test_missing_files(self, tmp_path):
        (tmp_path / "here.yaml").touch()
        page = (
            "`nope.yaml`, here.yaml, [x](elsewhere/nope.py), README.md, scale.py, `file.py:function`, emoji_*.yaml\n"
            "```yaml\n# made.yaml\na: 1\n```\n```bash\npython examples/nope.py made.yaml runs/none.yaml\n```\n"
            "```text\n$ python examples/pretrain.py lost.yaml\n```\n"
        )
        missing = ["elsewhere/nope.py", "examples/nope.py", "file.py", "nope.yaml", "runs/none.yaml"]
        assert find_missing_files(page, tmp_path) == missing

    def test_links(self):
        page = "[a](docs/a.md#part) ![b](b.png) [c](https://example.org) [d](#here)"
        assert read_links(page) == ["docs/a.md", "b.png"]

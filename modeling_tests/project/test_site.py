# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The documents as a site: built without a warning, complete, and without anything fetched from elsewhere."""

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main

import lavit_hf
from documents import ROOT
from lavit_hf.cli.app import app


pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install '.[docs]'")
pytestmark = pytest.mark.slow  # building it


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Proxies that lead nowhere: a build that fetched something would fail.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    repository = {"GITHUB_REPOSITORY": "someone/lavit", "GITHUB_SERVER_URL": "https://example.org"}
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | nowhere | repository | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "WARNING" not in result.stderr
    return folder


@pytest.fixture(scope="module")
def api(site) -> str:
    return "\n".join(path.read_text() for path in sorted((site / "api").glob("*.html")))


def words(page: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", "", page)).split())


def test_all_public_names_are_documented(api):
    assert [name for name in lavit_hf.__all__ if f'id="lavit_hf.{name}"' not in api] == []


def test_inherited_methods_are_documented(api):
    for method in ("LaVITForCausalLM.generate", "LaVITPipeline.__call__", "LaVITPipeline.generate_image_tokens"):
        assert f'id="lavit_hf.{method}"' in api


def test_docstrings_become_lists_and_links(api):
    assert not re.search(r"<p>(Args|Returns|Raises|Example):", api)
    assert "codebook_size (int, optional, defaults to 16384): Number of codes." in words(api)
    assert "ValueError: If keep_mask has a wrong shape" in words(api)
    assert re.search(r'href="[^"]*#lavit_hf.LaVITPipelineOutput"><code>LaVITPipelineOutput</code>', api)
    assert not re.search(r"\[<code>[~\w.]+</code>\]", api)  # a reference that stayed as it was
    assert '<span class="gp">&gt;&gt;&gt; </span>' in api  # an example, colored


def test_all_commands_and_options_are_documented(site):
    page = words((site / "cli.html").read_text())
    for name, command in typer.main.get_command(app).commands.items():
        assert f"lavit {name}" in page
        for parameter in command.params:
            assert [option for option in parameter.opts if option.startswith("--") and option not in page] == []


def test_descriptions_of_commands_are_whole(site):
    page = words((site / "cli.html").read_text())
    for name, command in typer.main.get_command(app).commands.items():
        assert page.count(" ".join(command.help.split())) >= 2, name  # in the list, and above the options


def test_repository_is_linked_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    from hooks import find_repository

    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/lavit")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://example.org")
    assert find_repository() == "https://example.org/someone/lavit"
    monkeypatch.delenv("GITHUB_REPOSITORY")
    for origin, address in {
        "git@example.org:someone/lavit.git": "https://example.org/someone/lavit",
        "ssh://git@example.org/someone/lavit.git": "https://example.org/someone/lavit",
        "https://example.org/someone/lavit": "https://example.org/someone/lavit",
        "/srv/lavit.git": None,
    }.items():
        monkeypatch.setattr("hooks.subprocess.run", lambda *_, origin=origin, **__: SimpleNamespace(stdout=origin))
        assert find_repository() == address


def test_site_links_to_the_repository(site):
    assert 'href="https://example.org/someone/lavit"' in (site / "train.html").read_text()


@pytest.mark.browser
def test_search_from_the_disk(site):
    browser = shutil.which("chromium") or shutil.which("google-chrome") or pytest.skip("there is no Chromium")
    options = ["--headless", "--no-sandbox", "--virtual-time-budget=20000", "--dump-dom"]
    page = subprocess.run(
        [browser, *options, f"{(site / 'index.html').as_uri()}?q=calibrated+threshold"], capture_output=True, text=True
    ).stdout
    assert "matching document" in words(page)


def test_nothing_is_fetched_when_it_is_read(site):
    fetched = re.compile(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["']?(https?:)?//""")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    assert [page.name for page in pages if fetched.search(page.read_text())] == []


def test_changelog_and_pages_beside_docs(site):
    assert "Keep a Changelog" in (site / "changelog.html").read_text()
    assert (site / "examples" / "finetune.py").read_text() == (ROOT / "examples" / "finetune.py").read_text()
    train = (site / "train.html").read_text()
    assert 'href="examples/scale.html"' in train and 'href="examples/pretrain.py"' in train
    assert 'href="../train.html"' in (site / "examples" / "index.html").read_text()


def test_a_broken_link_is_an_error(tmp_path):
    """That the build is strict."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[lost](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: []\nnav: null\nplugins: [search]\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and "nowhere.md" in result.stderr

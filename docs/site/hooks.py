# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What the site takes from outside `docs/`: files that pages link to, the changelog and the command line's help."""

import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


ROOT = Path(__file__).parents[2]
BESIDE_DOCS = (
    "CONTRIBUTING.md",
    "LICENSE",
    "NOTICE",
    "examples/**/*.md",
    "examples/**/*.py",
    "examples/**/*.sh",
    "examples/**/*.yaml",
    "examples/**/*.json",
    "src/lavit_hf/checkpoints/*/README.md",
    "src/lavit_hf/checkpoints/*/*.jpg",
)
LINK = re.compile(r"(?<=]\()(?![a-z]+:|[/#])([^)\s#]+)")
COMMANDS, CHANGELOG = "<!-- commands -->", "<!-- changelog -->"


def on_config(config: MkDocsConfig, **_) -> MkDocsConfig:
    """
    Links to the repository at the foot of every page, where there is one to link to. Not by `repo_url`, for which the
    theme fetches the number of stars.
    """
    if address := find_repository():
        config.extra["social"] = [{"icon": "fontawesome/brands/git-alt", "link": address, "name": "Repository"}]
    return config


def find_repository() -> str | None:
    """The repository's address: that of the runner that builds the site, or else of the clone's origin."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    origin = subprocess.run(command, capture_output=True, text=True).stdout.strip().removesuffix(".git")
    origin = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", origin)
    return origin if origin.startswith("https://") else None


def on_files(files: Files, config: MkDocsConfig, **_) -> Files:
    """Adds what lies beside `docs/`, under the path it has in the repository."""
    for pattern in BESIDE_DOCS:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_) -> str:
    """Fills in what is made elsewhere, and turns links between files of the repository into links of the site."""
    if COMMANDS in markdown:
        markdown = markdown.replace(COMMANDS, describe_commands())
    if CHANGELOG in markdown:
        changelog = (ROOT / "CHANGELOG.md").read_text()
        markdown = markdown.replace(CHANGELOG, changelog.split("\n", 1)[1])
    docs = PurePosixPath(Path(config.docs_dir).relative_to(ROOT))
    page_uri = PurePosixPath(page.file.src_uri)
    folder = page_uri.parent if page.file.generated_by else docs / page_uri.parent

    def site_link(match: re.Match) -> str:
        target = PurePosixPath(posixpath.normpath(folder / match[1]))
        target = target.relative_to(docs) if target.is_relative_to(docs) else target
        return posixpath.relpath(target, page_uri.parent)

    return LINK.sub(site_link, markdown)


def describe_commands() -> str:
    """Every command with its options, as typer describes them, its headings one level down."""
    command = [sys.executable, "-m", "typer", "lavit_hf.cli.app", "utils", "docs", "--name", "lavit"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    described = dict(re.findall(r"^## `lavit ([\w-]+)`\n\n(.+?)\n\n", text, flags=re.MULTILINE | re.DOTALL))
    # The list on top has them cut at some 45 characters.
    text = re.sub(
        r"^\* `([a-z][\w-]*)`: .*$", lambda line: f"* `{line[1]}`: {described[line[1]]}", text, flags=re.MULTILINE
    )
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)

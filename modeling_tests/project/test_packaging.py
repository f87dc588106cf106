# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What is published beside the code: citation, notices, and a wheel that works without the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import lavit_hf
from documents import ROOT


IN_SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "MANIFEST.in")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel that is built of the sources."""
    folder = tmp_path_factory.mktemp("package")
    for name in IN_SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(ROOT / name, folder / "sources" / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / "sources")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "sources"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == lavit_hf.__version__
    paper = citation["preferred-citation"]
    assert paper["identifiers"][0]["value"] == "arXiv:2309.04669"
    assert [author["family-names"] for author in paper["authors"]][:3] == ["Jin", "Xu", "Xu"]
    assert len(paper["authors"]) == 16


def test_artists_are_named_in_the_notice():
    """Each drawing that the shipped checkpoint learned from is credited where the licences are."""
    notice = (ROOT / "NOTICE").read_text()
    trained_on, _, _ = (ROOT / "examples/emoji/ATTRIBUTION.md").read_text().partition("Two more sets are looked at")
    rows = re.findall(r"^\| `[\w-]+` \| (.+?) \| (.+?) \|", trained_on, re.M)
    assert len(rows) == 12
    for drawing, licence in rows:
        artist = drawing.split(",")[0].split(" ")[0]
        assert artist in notice
        assert licence.split(" ")[0] in notice


def test_unreleased_changes_are_listed():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    heading = "Unreleased" if "dev" in lavit_hf.__version__ else lavit_hf.__version__
    section = changelog.split(f"## [{heading}]")[1].split("\n## ")[0]
    assert "### " in section and section.count("\n- ")


@pytest.mark.slow
class TestWheel:
    def test_holds_all_files_and_licences(self, wheel):
        names = ZipFile(wheel).namelist()
        sources = wheel.parent / "sources" / "src"
        files = [path.relative_to(sources).as_posix() for path in sources.glob("lavit_*/**/*") if path.is_file()]
        assert any(name.endswith("unet/diffusion_pytorch_model.safetensors") for name in files)
        assert [name for name in files if name not in names and ".egg-info" not in name] == []
        assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names if "dist-info/licenses/" in name}

    def test_works_by_itself(self, wheel, tmp_path):
        target = tmp_path / "installed"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel]
        subprocess.run(command, check=True)
        picture = str(ROOT / "examples/images/emoji/penguin.png")
        code = (
            "import lavit_hf; print(lavit_hf.__file__);"
            f"from lavit_hf.cli.app import app; app(['caption', {picture!r}, '--json'])"
        )
        environment = os.environ | {"PYTHONPATH": str(target)}
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        origin, caption = result.stdout.splitlines()
        assert Path(origin).is_relative_to(target)
        assert json.loads(caption)["caption"]

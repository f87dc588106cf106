# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
transformers' own common tests, fetched from the source archive of the installed version into a cache.

The archive leaves out three modules that the common tests import; empty stand-ins take their place.
"""

import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path

import transformers
from filelock import FileLock


CACHE = Path(__file__).parents[2] / ".cache"

PICTURE = Path(__file__).parents[2] / "examples" / "images" / "cat.jpg"

STAND_INS = {
    "tests/__init__.py": "",
    "tests/exporters/__init__.py": "",
    "tests/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "tests/generation/__init__.py": "",
    "tests/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
}


# Marks that the common tests bear and pytest must know.
MARKS = ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test")


def add_transformers_tests_to_path() -> None:
    """Makes `tests.test_modeling_common` and its sisters importable."""
    folder = CACHE / f"transformers-{transformers.__version__}"
    CACHE.mkdir(exist_ok=True)
    with FileLock(CACHE / "transformers.lock"):
        if not folder.is_dir():
            _fetch(folder)
    sys.path.insert(0, str(folder))
    # An image of ours stands in for those that the common tests would download.
    fetching = types.ModuleType("fetch_hub_objects_for_ci")
    fetching.url_to_local_path = lambda url, **kwargs: str(PICTURE)
    sys.modules[fetching.__name__] = fetching


def _fetch(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        requirement = f"transformers=={transformers.__version__}"
        subprocess.run([*command, "--no-binary", "transformers", "--dest", temporary, requirement], check=True)
        stage = Path(temporary) / "stage"
        with tarfile.open(next(Path(temporary).glob("transformers-*.tar.gz"))) as archive:
            members = [member for member in archive.getmembers() if member.name.split("/")[1:2] == ["tests"]]
            archive.extractall(stage, members=members, filter="data")
        root = next(stage.iterdir())
        for name, content in STAND_INS.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        root.rename(folder)

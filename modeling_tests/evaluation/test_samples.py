# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' own files and folders of datasets as samples, and what of them is refused."""

import json

import pytest

from benchmark_files import CAPTIONS, NUMBERS, QUESTIONS, WRITERS, coco_name, picture, save_pictures, write_rows
from lavit_hf.evaluation.benchmarks import BENCHMARKS, read_samples
from lavit_hf.tasks.failures import Failure


def read(task, folder, split=None, column=None, seed=0):
    return read_samples(task, folder, split, column, seed)


def rows_of(samples) -> list[tuple]:
    return [(row.id, row.text, row.references, row.kind) for row in samples.rows]


class TestAnnotations:
    @pytest.mark.parametrize("task", ["coco", "nocaps"])
    def test_captions(self, task, tmp_path):
        samples = read(task, WRITERS[task](tmp_path))
        kinds = (
            dict.fromkeys(NUMBERS)
            if task == "coco"
            else {n: "near-domain" if n % 2 else "out-domain" for n in NUMBERS}
        )
        assert rows_of(samples) == [(str(n), None, tuple(CAPTIONS[n]), kinds[n]) for n in NUMBERS]

    def test_flickr30k(self, tmp_path):
        """Karpathy's layout without folders and ids of COCO."""
        save_pictures(tmp_path / "flickr30k-images", ["36979.jpg"])
        sentences = [{"raw": "a dog."}]
        images = [
            {"filename": "36979.jpg", "split": split, "imgid": 4, "sentences": sentences} for split in ("test", "val")
        ]
        (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
        assert rows_of(read("flickr30k", tmp_path)) == [("4", None, ("a dog.",), None)]

    @pytest.mark.parametrize("task", ["vqav2", "okvqa"])
    def test_questions(self, task, tmp_path):
        expected = [
            (str(10 * n), QUESTIONS[n]["question"], tuple(QUESTIONS[n]["answers"]), "other" if n > 1 else "number")
            for n in NUMBERS
        ]
        assert rows_of(read(task, WRITERS[task](tmp_path))) == expected

    def test_gqa(self, tmp_path):
        rows = rows_of(read("gqa", WRITERS["gqa"](tmp_path)))
        assert rows == [(str(10 * n), QUESTIONS[n]["question"], ("very",), "query") for n in NUMBERS]

    def test_vizwiz(self, tmp_path):
        rows = rows_of(read("vizwiz", WRITERS["vizwiz"](tmp_path)))
        assert rows[1] == ("VizWiz_val_00000002.jpg", QUESTIONS[2]["question"], (*["very"] * 6, "no"), "other")

    @pytest.mark.parametrize("task", WRITERS)
    def test_pictures_are_theirs(self, task, tmp_path):
        samples = read(task, WRITERS[task](tmp_path))
        found = sorted(samples.read(row.picture).tobytes() for row in samples.rows)
        assert found == sorted(picture(number).tobytes() for number in NUMBERS)

    def test_prompts_are_drawn_by_the_seed(self, tmp_path):
        folder = WRITERS["coco-images"](tmp_path)
        first, again, other = (rows_of(read("coco-images", folder, seed=seed)) for seed in (0, 0, 1))
        assert first == again != other
        assert {id: text in CAPTIONS[int(id)] for id, text, _, _ in first} == {str(n): True for n in NUMBERS}

    def test_geneval(self, tmp_path):
        entries = [{"tag": "color", "prompt": "a red dog"}, {"tag": "counting", "prompt": "two cats"}]
        (tmp_path / "evaluation_metadata.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        samples = read("geneval", tmp_path)
        assert [(row.id, row.text, row.metadata) for row in samples.rows] == [
            ("00000", "a red dog", entries[0]),
            ("00001", "two cats", entries[1]),
        ]

    def test_dpg_bench(self, tmp_path):
        (tmp_path / "prompts").mkdir()
        for name in ("b", "a"):
            (tmp_path / "prompts" / f"{name}.txt").write_text(f"picture {name}\n")
        assert rows_of(read("dpg-bench", tmp_path)) == [("a", "picture a", (), None), ("b", "picture b", (), None)]

    def test_byte_order_marks(self, tmp_path):
        """They are no part of a prompt, and no damage."""
        (tmp_path / "a.txt").write_text("picture a", encoding="utf-8-sig")
        assert [row.text for row in read("dpg-bench", tmp_path).rows] == ["picture a"]
        folder = WRITERS["gqa"](tmp_path / "gqa")
        file = next(folder.rglob("testdev_balanced_questions.json"))
        before = rows_of(read("gqa", folder))
        file.write_text(file.read_text(), encoding="utf-8-sig")
        assert rows_of(read("gqa", folder)) == before


class TestRows:
    """A folder of datasets gives what the benchmarks' own files give."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        pytest.importorskip("datasets")
        return write_rows(tmp_path_factory.mktemp("rows") / "rows")

    def test_questions(self, folder, tmp_path):
        samples = read("vqav2", folder)
        assert rows_of(samples) == rows_of(read("vqav2", WRITERS["vqav2"](tmp_path)))
        assert [samples.read(row.picture).tobytes() for row in samples.rows] == [picture(n).tobytes() for n in NUMBERS]

    def test_download_of_the_hub(self, folder, tmp_path):
        """Its parquet files are in the folder `data`."""
        from datasets import load_from_disk

        (tmp_path / "data").mkdir()
        load_from_disk(folder)["test"].to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
        assert rows_of(read("captions", tmp_path)) == rows_of(read("captions", folder))

    def test_captions(self, folder):
        rows = read("captions", folder).rows
        assert [row.references for row in rows] == [tuple(CAPTIONS[number]) for number in NUMBERS]

    def test_prompts(self, folder):
        assert [row.text for row in read("images", folder).rows] == [CAPTIONS[number][0] for number in NUMBERS]

    def test_a_column_by_name(self, folder):
        assert [row.references for row in read("captions", folder, column="question").rows] == [
            (QUESTIONS[number]["question"],) for number in NUMBERS
        ]
        with pytest.raises(Failure, match=r"no column 'caption' with captions, only image.*--column"):
            read("captions", folder, column="caption")

    def test_several_questions_of_a_row(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        row = {
            "image": picture(1),
            "questions": ["Is it?", "Why?"],
            "answers": ["yes", "so"],
            "kinds": ["yes_no", "why"],
        }
        datasets.DatasetDict({"test": datasets.Dataset.from_list([row])}).save_to_disk(tmp_path / "rows")
        expected = [("0-0", "Is it?", ("yes",), "yes_no"), ("0-1", "Why?", ("so",), "why")]
        assert rows_of(read("questions", tmp_path / "rows")) == expected
        row["answers"] = ["yes"]
        datasets.DatasetDict({"test": datasets.Dataset.from_list([row])}).save_to_disk(tmp_path / "torn")
        with pytest.raises(Failure, match="row 0 has 2 questions, but 1 answers"):
            read("questions", tmp_path / "torn")

    def test_broken_pictures(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        rows = [{"image": {"bytes": content, "path": None}, "caption": "noise"} for content in (b"nothing", None)]
        features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
        rows[1]["image"] = None
        datasets.DatasetDict({"test": datasets.Dataset.from_list(rows, features)}).save_to_disk(tmp_path / "rows")
        samples = read("captions", tmp_path / "rows")
        assert [row.picture for row in samples.rows] == ["row 0", "row 1"]
        for row in samples.rows:
            with pytest.raises(ValueError):
                samples.read(row.picture)

    @pytest.mark.parametrize("task, lacks", [("captions", "nothing to compare with"), ("images", "no prompt")])
    @pytest.mark.parametrize("nothing", [[], [None], None, [""], [" ", "\n"]])
    def test_rows_without_captions(self, task, lacks, nothing, tmp_path):
        datasets = pytest.importorskip("datasets")
        rows = [{"image": picture(1), "captions": captions} for captions in (["noise"], nothing)]
        datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "rows")
        with pytest.raises(Failure, match=f"the sample '1' has {lacks}"):
            read(task, tmp_path / "rows")

    def test_captions_that_are_no_texts(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        rows = [{"image": picture(1), "captions": [{"raw": "noise"}]}]
        datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "rows")
        with pytest.raises(Failure, match=r"as a caption or answer, not \{'raw': 'noise'\}"):
            read("captions", tmp_path / "rows")

    def test_no_such_split(self, folder):
        with pytest.raises(ValueError, match="no split 'val', only test"):
            read("captions", folder, split="val")


class TestRefusals:
    def test_pictures_of_something_else(self, tmp_path):
        folder = WRITERS["coco"](tmp_path)
        for number in (2, 4):
            (folder / "val2014" / coco_name(number)).rename(folder / f"{number}.jpg")
        with pytest.raises(
            Failure, match=r"2 of the 5 annotated images are not in .*, such as val2014/COCO_val2014_0*2\.jpg"
        ):
            read("coco", folder)

    def test_questions_of_something_else(self, tmp_path):
        folder = WRITERS["vqav2"](tmp_path)
        path = folder / "annotations" / "v2_mscoco_val2014_annotations.json"
        annotations = json.loads(path.read_text())
        annotations["annotations"][0]["question_id"] = 77
        path.write_text(json.dumps(annotations))
        with pytest.raises(
            Failure, match="do not belong together: 5 questions, 5 annotations, 1 questions without an annotation"
        ):
            read("vqav2", folder)

    def test_captions_of_something_else(self, tmp_path):
        folder = WRITERS["nocaps"](tmp_path)
        path = folder / "nocaps_val_4500_captions.json"
        content = json.loads(path.read_text())
        content["annotations"][0]["image_id"] = 77
        path.write_text(json.dumps(content))
        with pytest.raises(Failure, match="a caption for image 77, but no such image"):
            read("nocaps", folder)

    def test_pictures_of_one_name(self, tmp_path):
        folder = WRITERS["gqa"](tmp_path)
        save_pictures(folder / "small", ["n1.jpg"])
        with pytest.raises(Failure, match=r"two images are called n1\.jpg"):
            read("gqa", folder)

    @pytest.mark.parametrize(
        "content, message",
        [
            ("{", "is damaged"),
            ("[1]", "not have the layout of this benchmark"),
            ("{}", "KeyError 'images'"),
            ("\x80", "is damaged"),
        ],
    )
    def test_damaged_files(self, content, message, tmp_path):
        (tmp_path / "dataset_coco.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(Failure, match=message):
            read("coco", tmp_path)

    def test_twice_the_same(self, tmp_path):
        folder = WRITERS["coco"](tmp_path)
        content = json.loads((folder / "dataset_coco.json").read_text())
        content["images"].append(content["images"][0])
        (folder / "dataset_coco.json").write_text(json.dumps(content))
        with pytest.raises(Failure, match="two samples have the id '1'"):
            read("coco", folder)

    @pytest.mark.parametrize("task", BENCHMARKS)
    def test_nothing_there(self, task, tmp_path):
        with pytest.raises(Failure, match=r"contains (neither .* nor|no) data that the datasets library reads"):
            read(task, tmp_path)
        with pytest.raises(Failure, match="there is no folder"):
            read(task, tmp_path / "data")

    def test_no_such_split(self, tmp_path):
        with pytest.raises(Failure, match="nothing in the split 'val'"):
            read("coco", WRITERS["coco"](tmp_path), split="val")

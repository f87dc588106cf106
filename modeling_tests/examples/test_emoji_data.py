# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The emoji set, built from packages of three styles and a few concepts that look like the real ones."""

import io
import itertools
import json
import shutil
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


pytest.importorskip("resvg_py")
datasets = pytest.importorskip("datasets")

EXAMPLE = Path(__file__).parents[2] / "examples" / "emoji"
sys.path.insert(0, str(EXAMPLE))
from lavit_emoji.dataset.concepts import read_concepts, spoken_name  # noqa: E402
from lavit_emoji.dataset.drawings import find_drawings, render, render_with_mask  # noqa: E402
from lavit_emoji.dataset.everyday import everyday_concepts, is_everyday, spread_concepts  # noqa: E402
from lavit_emoji.dataset.packages import (  # noqa: E402
    PACKAGE_LIST,
    Package,
    Style,
    fetch,
    integrity,
    read_members,
    read_package_list,
)
from lavit_emoji.dataset.splits import Sizes, assign_splits, find_twins, split_drawings  # noqa: E402
from lavit_emoji.dataset.texts import prompts, questions, text_problem, training_texts  # noqa: E402
from prepare import prepare  # noqa: E402


LABELS = {"1F34E": "red apple", "1F985": "eagle", "1F3B8": "guitar", "2600-FE0F": "sun", "1F52B": "water pistol"}
SUBGROUPS = {"1F34E": 1, "1F985": 2, "1F3B8": 3, "2600-FE0F": 4, "1F52B": 4}
LEFT_OUT = {"1F3FB": ("light skin tone", 2), "1F1EF-1F1F5": ("flag: Japan", 9), "1F550": ("one o\u2019clock", 5)}
GROUPS = {
    "groups": {"0": "smileys-emotion", "2": "component", "4": "food-drink", "5": "travel-places", "9": "flags"},
    "subgroups": {"1": "food-fruit", "2": "animal-bird", "3": "musical-instrument", "4": "other"},
}
SIZES = Sizes(drawings=1, concepts=1, validation=1)


def png(seed: int, size: int = 8) -> bytes:
    """An image unlike any of another seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def icon(seed: int) -> dict:
    colors = np.random.default_rng(seed).integers(0, 255, (4, 3))
    squares = [f'<path fill="rgb({r},{g},{b})" d="M{8 * i} 0h8v32h-8z"/>' for i, (r, g, b) in enumerate(colors)]
    return {"body": "".join(squares)}


def write_package(cache: Path, name: str, files: dict[str, bytes]) -> dict:
    """Writes an archive as npm packs it and returns its entry for the list."""
    path = cache / Package(name, "1.0.0", "").file_name
    with tarfile.open(path, "w:gz") as tar:
        for file_name, content in files.items():
            member = tarfile.TarInfo(f"package/{file_name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return {"name": name, "version": "1.0.0", "integrity": integrity(path)}


class Workshop:
    """Packages in the making; change `records`, `pngs`, `files` or `icons`, then `build`."""

    def __init__(self, root: Path):
        self.cache, self.list, self.output = root / "cache", root / "packages.json", root / "set"
        self.cache.mkdir()
        self.records = [
            {"hexcode": key, "label": label, "tags": ["food", "red"], "group": 4, "subgroup": SUBGROUPS[key]}
            for key, label in LABELS.items()
        ]
        self.records += [
            {"hexcode": key, "label": label, "group": group, "subgroup": 4} for key, (label, group) in LEFT_OUT.items()
        ]
        self.records.append({"hexcode": "1F1E6", "label": "regional indicator A"})
        self.pngs = {key: png(seed) for seed, key in enumerate(LABELS)}
        self.not_own = []
        self.files = {key: png(seed + 100, 150) for seed, key in enumerate(LABELS)}
        self.icons = {label.replace(" ", "-"): icon(seed + 200) for seed, label in enumerate(LABELS.values())}
        self.aliases, self.known_icons = {}, {}
        self.more = {}  # more settings of a style, by its name

    def write(self) -> Path:
        for order, record in enumerate(self.records):
            record["order"] = order
        listing = [
            {"unified": key, "image": f"{key.lower()}.png", "has_img_own": key not in self.not_own}
            for key in self.pngs
        ]
        names = {
            "en/data.json": json.dumps(self.records).encode(),
            "meta/groups.json": json.dumps(GROUPS).encode(),
            "meta/unicode-names.json": json.dumps({"1F52B": "PISTOL"}).encode(),
        }
        pngs = {f"img/own/64/{key.lower()}.png": picture for key, picture in self.pngs.items()}
        icons = {"width": 32, "height": 32, "icons": self.icons, "aliases": self.aliases}
        styles = [
            ("sheet", "datasource", {"emoji.json": json.dumps(listing).encode(), **pngs}, {"folder": "img/own/64"}),
            ("files", "files", {f"assets/{k.lower()}.png": v for k, v in self.files.items()}, {"folder": "assets"}),
            ("icons", "iconify", {"icons.json": json.dumps(icons).encode()}, {"icons": self.known_icons}),
        ]
        entries = [
            {"name": name, "artist": f"{name}'s artist", "licence": "MIT", "layout": layout, **more}
            | self.more.get(name, {})
            | {"package": write_package(self.cache, f"@test/{name}", content)}
            for name, layout, content, more in styles
        ]
        self.list.write_text(json.dumps({"names": write_package(self.cache, "names", names), "styles": entries}))
        return self.list

    def build(self, sizes: Sizes = SIZES, **kwargs) -> tuple[dict, dict]:
        """Returns the record and all rows by concept and style."""
        record = prepare(self.output, self.cache, self.write(), sizes=sizes, **kwargs)
        saved = datasets.load_from_disk(self.output)
        return record, {(row["concept"], row["style"]): row for split in saved.values() for row in split}

    def find(self, style_name: str) -> dict[str, tuple[str, bytes]]:
        """What `find_drawings` finds for one style."""
        names, styles = read_package_list(self.write())
        style = next(style for style in styles if style.name == style_name)
        return find_drawings(style, fetch(style.package, self.cache), read_concepts(fetch(names, self.cache)))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_rows(workshop):
    record, rows = workshop.build()
    assert rows.keys() == {
        (key.removesuffix("-FE0F"), style) for key in LABELS for style in ("sheet", "files", "icons")
    }
    row = rows["1F34E", "icons"]
    assert row["image"].mode == "RGB" and row["image"].size == (128, 128)
    described = {key: value for key, value in row.items() if key not in ("image", "mask", "split")}
    assert described == {
        "name": "red apple",
        "keywords": ["food", "red"],
        "concept": "1F34E",
        "style": "icons",
        "artist": "icons's artist",
        "category": "food-drink",
        "subcategory": "food-fruit",
        "licence": "MIT",
    }
    assert row["mask"].mode == "L" and row["mask"].getextrema() == (255, 255)
    assert (record["concepts"], record["drawings"], record["skipped"]) == (5, 15, [])


def test_splits_are_recorded(workshop):
    record, _ = workshop.build(seed=7)
    saved = datasets.load_from_disk(workshop.output)
    assert {name: len(split) for name, split in saved.items()} == {
        "train": 10,
        "validation": 1,
        "test_drawings": 1,
        "test_concepts": 3,
    }
    assert all(row["split"] == name for name, split in saved.items() for row in split)
    assert len(set(saved["test_concepts"]["concept"])) == 1
    held_out = [set(saved[name]["concept"]) for name in ("validation", "test_drawings", "test_concepts")]
    assert len(set.union(*held_out)) == 3
    assert set(saved["test_drawings"]["concept"]) < set(saved["train"]["concept"])
    assert json.loads((workshop.output / "preparation.json").read_text()) == record
    assert record["seed"] == 7 and "seed 7" in saved["train"].info.description


def test_second_run_is_the_same(workshop, tmp_path):
    packages = workshop.write()

    def run(name: str) -> dict:
        prepare(tmp_path / name, workshop.cache, packages, sizes=SIZES)
        saved = datasets.load_from_disk(tmp_path / name)
        saved = saved.cast_column("image", datasets.Image(decode=False))
        saved = saved.cast_column("mask", datasets.Image(decode=False))
        return {name: split.to_list() for name, split in saved.items()}

    assert run("first") == run("second")


def test_broken_pictures_are_skipped_and_named(workshop):
    workshop.pngs["1F34E"] = workshop.pngs["1F34E"][:60]
    workshop.files["1F985"] = png(0).replace(b"PNG", b"GNP")
    workshop.icons["guitar"] = {"body": "<path"}
    workshop.icons["sun"] = {"body": '<path fill="#fff" d="M0 0h32v32H0z"/>'}
    record, rows = workshop.build(Sizes(0, 1, 0))
    assert len(rows) == record["drawings"] == 11
    named = [
        "sheet: img/own/64/1f34e.png cannot",
        "files: assets/1f985.png cannot",
        "icons: guitar",
        "icons: sun is blank",
    ]
    assert len(record["skipped"]) == 4
    assert all(f"@test/{name}" in line for name, line in zip(named, record["skipped"], strict=True))


@pytest.mark.parametrize("label", ["", "x" * 81, "an [IMG] apple", "a </s> b", "tab\there"])
def test_bad_names_and_keywords_are_skipped_and_named(workshop, label):
    workshop.records[0]["label"] = label
    workshop.records[1]["tags"] = ["bird", label]
    record, rows = workshop.build()
    assert ("1F34E", "files") not in rows and rows["1F985", "files"]["keywords"] == ["bird"]
    assert record["skipped"][0].startswith("concept 1F34E: its name ")
    assert record["skipped"][1].startswith("concept 1F985: a keyword ")


@pytest.mark.parametrize("sizes", [Sizes(drawings=5, concepts=1, validation=0), Sizes(0, 6, 0)])
def test_too_few_concepts_leave_nothing_behind(workshop, sizes):
    with pytest.raises(ValueError, match=r"Only \d concepts can have .* held out, not \d\. Ask for fewer"):
        workshop.build(sizes)
    assert not workshop.output.exists()


def test_no_drawings(workshop):
    workshop.pngs, workshop.files, workshop.icons = {}, {}, {}
    with pytest.raises(ValueError, match="No drawings were found"):
        workshop.build()


def test_existing_output_is_not_touched(workshop):
    workshop.output.mkdir()
    with pytest.raises(FileExistsError, match="choose another --output"):
        workshop.build()
    assert not list(workshop.output.iterdir())


def test_failed_save_leaves_nothing_behind(workshop, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(datasets.DatasetDict, "save_to_disk", fail)
    packages = workshop.write()
    before = sorted(workshop.output.parent.iterdir())
    with pytest.raises(OSError, match="No space left"):
        prepare(workshop.output, workshop.cache, packages, sizes=SIZES)
    assert sorted(workshop.output.parent.iterdir()) == before


def test_changed_archive_is_refused(workshop):
    names, _ = read_package_list(workshop.write())
    with (workshop.cache / names.file_name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"is not the pinned names@1\.0\.0\. Delete it"):
        fetch(names, workshop.cache)


def test_missing_npm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="npm is needed to download"):
        fetch(Package("some-package", "1.0.0", ""), tmp_path / "cache")


def test_unknown_layout(workshop):
    _, styles = read_package_list(workshop.write())
    with pytest.raises(ValueError, match=r"layout 'zip'\. Use one of datasource, files, iconify"):
        find_drawings(replace(styles[0], layout="zip"), workshop.cache / styles[0].package.file_name, {})


def test_other_artists_fillers_are_left_out(workshop):
    workshop.not_own = ["1F985"]
    assert workshop.find("sheet").keys() == {"1F34E", "1F3B8", "2600", "1F52B"}


def test_icons_by_name(workshop):
    workshop.icons["pistol"] = workshop.icons.pop("water-pistol")  # Unicode's name
    assert workshop.find("icons")["1F52B"][0] == "pistol"
    workshop.known_icons = {"pistol": "", "eagle": "1F3B8"}
    found = {key: name for key, (name, _) in workshop.find("icons").items()}
    assert found == {"1F34E": "red-apple", "1F3B8": "eagle", "2600": "sun"}


def test_unknown_icon(workshop):
    workshop.known_icons = {"igel": "1F3B8"}
    with pytest.raises(ValueError, match=r"are not in .*: igel"):
        workshop.find("icons")


def test_alias_is_flipped(workshop):
    mirrored = workshop.icons.pop("eagle")
    workshop.icons["bird"] = mirrored
    workshop.aliases["eagle"] = {"parent": "bird", "hFlip": True}
    image = np.asarray(render(workshop.find("icons")["1F985"][1], 32))
    workshop.known_icons = {"bird": "1F985"}
    assert np.array_equal(image, np.asarray(render(workshop.find("icons")["1F985"][1], 32))[:, ::-1])
    assert not np.array_equal(image, image[:, ::-1])


def test_render_on_white_in_the_middle():
    buffer = io.BytesIO()
    Image.new("RGBA", (20, 40), (255, 0, 0, 128)).save(buffer, format="png")
    pixels = np.asarray(render(buffer.getvalue(), 40))
    assert (pixels[:, :10] == 255).all() and (pixels[:, 30:] == 255).all()
    assert (pixels[:, 10:30] == (255, 127, 127)).all()


def test_mask_is_what_is_covered():
    buffer = io.BytesIO()
    Image.new("RGBA", (20, 40), (255, 0, 0, 128)).save(buffer, format="png")
    _, mask = render_with_mask(buffer.getvalue(), 40)
    pixels = np.asarray(mask)
    assert (pixels[:, :10] == 0).all() and (pixels[:, 30:] == 0).all() and (pixels[:, 10:30] == 128).all()


def test_numbered_icons(workshop):
    workshop.icons["eagle-1"], workshop.icons["eagle-2"] = workshop.icons.pop("eagle"), icon(300)
    workshop.icons["guitar-1"] = icon(301)
    found = {key: name for key, (name, _) in workshop.find("icons").items()}
    assert (found["1F985"], found["1F3B8"]) == ("eagle-1", "guitar")


def test_artists_of_no_training(workshop):
    workshop.more = {"files": {"use": "choose"}, "icons": {"use": "stranger"}}
    record, rows = workshop.build(Sizes(0, 0, 0))
    assert {(style, row["split"]) for (_, style), row in rows.items()} == {
        ("sheet", "train"),
        ("files", "validation_artist"),
        ("icons", "stranger"),
    }
    assert record["counts"]["stranger"] == {"icons": 5}


def test_colorless_artist_draws_no_colored_concepts(workshop):
    workshop.more = {"icons": {"own_colors": False}}
    _, rows = workshop.build(Sizes(0, 0, 0))
    assert ("1F34E", "icons") not in rows and ("1F34E", "files") in rows and ("1F985", "icons") in rows


def test_unknown_use(workshop):
    workshop.more = {"icons": {"use": "test"}}
    with pytest.raises(ValueError, match=r"use 'test'\. Use one of train, train_only, choose, stranger"):
        workshop.build()


def uses(**styles) -> dict[str, Style]:
    package = Package("some-package", "1.0.0", "")
    return {name: Style(name, name, "MIT", package, "files", **settings) for name, settings in styles.items()}


def test_new_artists_leave_the_split_as_it_was():
    drawings = [(f"{number:X}", style) for number in range(40) for style in "abc"]
    before = assign_splits(drawings, [set()] * 120, Sizes(10, 5, 5), seed=0)
    styles = uses(a={}, b={}, c={}, d={"use": "train_only"}, e={"use": "choose"}, f={"use": "stranger"})
    more = [(f"{number:X}", style) for number in range(40) for style in "def"]
    after = split_drawings(drawings + more, [set()] * 240, styles, Sizes(10, 5, 5), seed=0)
    assert after[:120] == before
    whole = {key for (key, _), split in zip(drawings, before, strict=True) if split == "test_concepts"}
    expected = {"d": lambda key: None if key in whole else "train", "f": lambda key: "stranger"}
    expected["e"] = lambda key: None if key in whole else "validation_artist"
    assert after[120:] == [expected[style](key) for key, style in more]


def test_nothing_gives_a_held_out_drawing_away():
    drawings = [(f"{number:X}", style) for number in range(20) for style in "abcde"]
    styles = uses(a={}, b={}, c={}, d={"use": "train_only", "derived_from": ["a", "b"]}, e={"use": "train_only"}, f={})
    splits = split_drawings(drawings, [set()] * 100, styles, Sizes(20, 0, 0), seed=0)
    held_out = {drawing for drawing, split in zip(drawings, splits, strict=True) if split == "test_drawings"}
    assert {style for _, style in held_out} == {"a", "b", "c"} and len(held_out) == 20
    for (key, style), split in zip(drawings, splits, strict=True):
        if style == "d":
            assert split == (None if held_out & {(key, "a"), (key, "b")} else "train")
    first = next(index for index, split in enumerate(splits) if split == "test_drawings")
    twins = [set() for _ in drawings]
    twins[first // 5 * 5 + 4] = {first}
    splits_of_twin = split_drawings(drawings, twins, styles, Sizes(20, 0, 0), seed=0)
    assert splits_of_twin[first // 5 * 5 + 4] is None and splits_of_twin[first] == "test_drawings"


def test_everyday_concepts():
    assert len(everyday_concepts()) == 579
    assert everyday_concepts()["1F436"] == "dog face"
    assert is_everyday({"concept": "1F436"}) and not is_everyday({"concept": "1F9D1-200D-1F680"})


def test_some_everyday_concepts_of_all_kinds():
    concepts = list(everyday_concepts())
    assert spread_concepts(579) == set(concepts)
    few = sorted(map(concepts.index, spread_concepts(150)))
    assert len(few) == 150 and {after - before for before, after in itertools.pairwise(few)} == {3, 4}
    for number in (0, 580):
        with pytest.raises(ValueError, match=f"1 to 579 everyday concepts to choose from, not {number}"):
            spread_concepts(number)


def test_twins():
    images = [Image.open(io.BytesIO(png(seed, 16))) for seed in (0, 0, 1)]
    shaded = images[0].point(lambda value: min(value + 12, 255))
    concepts = ["a", "b", "c", "a"]
    assert find_twins([*images, shaded], concepts) == [{1, 3}, {0}, set(), {0}]


def test_twins_are_never_held_out():
    drawings = [(f"{number:X}", style) for number in range(40) for style in "abc"]
    twins = [{index + 1} if index % 3 == 0 else {index - 1} if index % 3 == 1 else set() for index in range(120)]
    splits = assign_splits(drawings, twins, Sizes(drawings=10, concepts=0, validation=10), seed=0)
    assert {style for (_, style), split in zip(drawings, splits, strict=True) if split != "train"} == {"c"}
    twins[5], twins[8] = {8}, {5}  # of two concepts: now neither may go, alone or whole
    splits = assign_splits(drawings, twins, Sizes(drawings=0, concepts=38, validation=0), seed=0)
    assert splits[3:9] == ["train"] * 6


def test_split_stays_when_drawings_are_added():
    def held_out(concepts: int, seed: int = 0) -> set:
        drawings = [(f"{number:X}", style) for number in range(concepts) for style in "abc"]
        splits = assign_splits(drawings, [set()] * len(drawings), Sizes(20, 5, 5), seed)
        return {(drawing, split) for drawing, split in zip(drawings, splits, strict=True) if split != "train"}

    assert len(held_out(40)) == 40
    assert len(held_out(40) & held_out(41)) >= 35
    assert len(held_out(40) & held_out(40, seed=1)) < 35


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("red apple", "red apple"),
        ("Mrs. Claus", "Mrs Claus"),
        ("man\u2019s shoe", "man's shoe"),
        ("man: red hair", "man with red hair"),
        ("woman: bald", "bald woman"),
        ("family: man, woman, boy", "family of man and woman and boy"),
    ],
)
def test_spoken_name(label, name):
    assert spoken_name(label) == name


def row(name: str, category: str = "objects", subcategory: str = "other", keywords=()) -> dict:
    return {"name": name, "category": category, "subcategory": subcategory, "keywords": list(keywords)}


def test_training_texts():
    apple = row("red apple", "food-drink", "food-fruit", ["apple", "fruit"])
    assert training_texts(apple) == [
        "red apple",
        "Question: What is this? Answer: red apple",
        "Question: What category is this? Answer: food and drink",
        "Question: What kind of food is this? Answer: fruit",
        "Question: What color is the apple? Answer: red",
    ]
    assert prompts(apple) == ["red apple", "red apple, fruit"]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("two hearts", ("How many hearts are there?", "2")),
        ("family of man and woman and girl", ("How many people are there?", "3")),
        ("light blue heart", ("What color is the heart?", "light blue")),
        ("two-hump camel", None),
        ("orange", None),
        ("white flower", None),
    ],
)
def test_only_what_the_name_tells(name, answer):
    assert questions(row(name))[2:] == ([answer] if answer else [])


def test_text_problem():
    assert text_problem("piñata", 80) is None
    assert text_problem(" ", 80) == "is empty"
    assert text_problem("abc", 2) == "is too long (3 characters, at most 2)"
    assert text_problem("a <code_7> b", 80) == "holds a control token ('<code_7>')"


def test_pinned_packages():
    _, styles = read_package_list(PACKAGE_LIST)
    assert {style.name: style.licence for style in styles} == {
        "noto": "Apache-2.0",
        "twemoji": "CC-BY-4.0",
        "fluent-3d": "MIT",
        "fluent-flat": "MIT",
        "noto-v1": "Apache-2.0",
        "emojione": "CC-BY-4.0",
        "fxemoji": "Apache-2.0",
        "streamline-emojis": "CC-BY-4.0",
        "fluent-emoji-high-contrast": "MIT",
        "emojione-monotone": "CC-BY-4.0",
        "game-icons": "CC-BY-3.0",
        "icon-park": "Apache-2.0",
        "emojione-v1": "CC-BY-SA-4.0",
        "openmoji": "CC-BY-SA-4.0",
    }
    by_use = {style.name: style.use for style in styles if not style.use.startswith("train")}
    assert by_use == {"emojione-v1": "choose", "openmoji": "stranger"}
    assert all(by_use.get(style.name) for style in styles if "-SA-" in style.licence)  # share-alike is not trained on
    attribution = (EXAMPLE / "ATTRIBUTION.md").read_text()
    assert all(f"`{style.name}`" in attribution and style.package.name in attribution for style in styles)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_npm_pack(tmp_path):
    _, styles = read_package_list(PACKAGE_LIST)
    package = next(style.package for style in styles if style.name == "emojione")
    archive = fetch(package, tmp_path)
    assert list(tmp_path.iterdir()) == [archive]
    assert len(json.loads(read_members(archive, "icons.json")["icons.json"])["icons"]) > 1000
    with pytest.raises(RuntimeError, match=r"npm pack .* failed"):
        fetch(replace(package, version="0.0.0-none"), tmp_path)

# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Sheets of drawings and views of them, from a set of plain rectangles with the names of real things."""

import io
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


pytest.importorskip("resvg_py")
datasets = pytest.importorskip("datasets")

EXAMPLE = Path(__file__).parents[2] / "examples" / "emoji"
sys.path.insert(0, str(EXAMPLE))
import choose_written  # noqa: E402
import prepare_sheets  # noqa: E402
from lavit_emoji.dataset import views as views_module  # noqa: E402
from lavit_emoji.dataset.effects import as_jpeg, blurred, grey, line_drawing, lines, on_paper, outlined  # noqa: E402
from lavit_emoji.dataset.packages import PACKAGE_LIST  # noqa: E402
from lavit_emoji.dataset.papers import WORDS, random_paper, recolor  # noqa: E402
from lavit_emoji.dataset.sources import Pictures  # noqa: E402
from lavit_emoji.dataset.views import views  # noqa: E402
from lavit_emoji.measures.guessing import WordGuesser, score_guesses  # noqa: E402
from lavit_emoji.sheets.grammar import MATERIALS, NO_THINGS, can_be_named, counted, is_plural, listing, plural  # noqa: E402
from lavit_emoji.sheets.layout import SheetMaker, SheetSettings, compose, distance_by_patch, drawn_by_patch, place  # noqa: E402
from lavit_emoji.sheets.plans import Plan  # noqa: E402
from lavit_emoji.sheets.texts import Placed, beside, questions  # noqa: E402
from lavit_emoji.sheets.things import Things  # noqa: E402
from pair_texts import WRITTEN_STYLES, is_it_texts, is_written_drawing, is_written_sheet, pair_texts  # noqa: E402
from prepare import FEATURES  # noqa: E402
from text_tokenizer import written_on_sheets  # noqa: E402


NAMED = {
    "cat": "animal-mammal",
    "fox": "animal-mammal",
    "duck": "animal-bird",
    "owl": "animal-bird",
    "frog": "animal-amphibian",
    "snake": "animal-reptile",
    "crab": "animal-marine",
    "ant": "animal-bug",
    "red apple": "food-fruit",
    "lemon": "food-fruit",
    "carrot": "food-vegetable",
    "pie": "food-sweet",
    "bread": "food-prepared",
    "glasses": "clothing",
    "crown": "clothing",
    "orange book": "book-paper",
    "guitar": "musical-instrument",
    "rocket": "transport-air",
    "bus": "transport-ground",
    "key": "lock",
}
SAYS = {"cat": ["pet"], "lemon": ["fruit", "sour"], "crown": ["king"], "bus": ["vehicle", "school"]}
SIZE = 64


def drawing(seed: int, name: str = "cat", subcategory: str = "animal-mammal") -> dict:
    """A rectangle of two shades of a color of its own, with white around it."""
    numbers = np.random.default_rng(seed)
    width, height = numbers.integers(24, 60, 2)
    color = numbers.integers(40, 200, 3)
    pixels = np.full((SIZE, SIZE, 3), 255, dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    pixels[:height, :width], pixels[: height // 2, :width] = color, color // 2
    mask[:height, :width] = 255
    columns = {"concept": f"{hash_free(name):X}", "category": "objects", "subcategory": subcategory}
    return {
        "image": Image.fromarray(pixels),
        "mask": Image.fromarray(mask),
        "name": name,
        "keywords": SAYS.get(name, []),
        "style": f"artist {seed % 3}",
        "artist": "",
        "split": "train",
        "licence": "MIT",
        **columns,
    }


def hash_free(name: str) -> int:
    """A codepoint for a name, the same in every run."""
    return 0x1F300 + sum((index + 1) * ord(letter) for index, letter in enumerate(name)) % 4096


def split_of(names: dict[str, str], artists: int = 3) -> datasets.Dataset:
    rows = [
        drawing(1000 * artist + index, name, subcategory)
        for artist in range(artists)
        for index, (name, subcategory) in enumerate(names.items())
    ]
    return datasets.Dataset.from_list(rows, features=FEATURES)


@pytest.fixture(scope="module")
def drawings() -> datasets.Dataset:
    return split_of(NAMED)


@pytest.fixture(scope="module")
def sheets(drawings) -> list:
    maker = SheetMaker(drawings, seed=0, settings=SheetSettings())
    return [maker[index] for index in range(800)]


# Grammar


@pytest.mark.parametrize(
    ("noun", "number", "color", "phrase"),
    [
        ("dog", 1, None, "a dog"),
        ("apple", 1, "red", "a red apple"),
        ("apple", 1, None, "an apple"),
        ("dog", 1, "orange", "an orange dog"),
        ("hourglass", 1, None, "an hourglass"),
        ("unicorn", 1, None, "a unicorn"),
        ("umbrella", 1, None, "an umbrella"),
        ("one-piece swimsuit", 1, None, "a one-piece swimsuit"),
        ("bread", 1, None, "bread"),
        ("glasses", 1, "blue", "blue glasses"),
        ("dog", 2, None, "two dogs"),
        ("dog", 3, "red", "three red dogs"),
        ("police car", 4, None, "four police cars"),
        ("butterfly", 2, None, "two butterflies"),
        ("monkey", 2, None, "two monkeys"),
        ("sandwich", 2, None, "two sandwiches"),
        ("fox", 2, None, "two foxes"),
        ("bus", 2, None, "two buses"),
        ("maple leaf", 2, None, "two maple leaves"),
        ("computer mouse", 2, None, "two computer mice"),
        ("tropical fish", 2, None, "two tropical fish"),
        ("tomato", 2, None, "two tomatoes"),
        ("flamingo", 2, None, "two flamingos"),
    ],
)
def test_phrases(noun, number, color, phrase):
    assert counted(noun, number, color) == phrase


def test_listing_has_no_commas():
    assert listing(["a cat", "two dogs", "bread"]) == "a cat and two dogs and bread"


def test_plurals():
    assert [noun for noun in ("glasses", "skis", "bus", "octopus", "dress", "hippopotamus") if is_plural(noun)] == [
        "glasses",
        "skis",
    ]
    with pytest.raises(ValueError, match="'bread' cannot be counted"):
        plural("bread")
    with pytest.raises(ValueError, match="one to four drawings, not 5"):
        counted("dog", 5)


@pytest.mark.parametrize(
    ("name", "subcategory", "good"),
    [
        ("dog", "animal-mammal", True),
        ("red heart", "heart", True),
        ("grinning face", "face-smiling", False),
        ("astronaut", "person-role", False),
        ("bowl with spoon", "food-prepared", False),
        ("tennis", "sport", False),
        ("oncoming bus", "transport-ground", False),
        ("pool 8 ball", "game", False),
        ("sunset", "place-other", False),
    ],
)
def test_what_can_be_named(name, subcategory, good):
    assert can_be_named({"name": name, "subcategory": subcategory}) is good


# Colors, papers and effects


@pytest.mark.parametrize("word", WORDS)
def test_recolored_is_the_color_that_its_word_says(word):
    row = drawing(3)
    pixels = np.asarray(recolor(row["image"], row["mask"], word), dtype=float)
    covered = np.asarray(row["mask"]) > 0
    mean = pixels[covered].mean(axis=0)
    assert min(WORDS, key=lambda other: np.linalg.norm(mean - WORDS[other])) == word
    assert (pixels[~covered] == 255).all()
    assert pixels[0, 0].sum() < pixels[int(covered[:, 0].sum()) - 1, 0].sum()  # what was darker still is


def test_flat_drawing_takes_the_color_itself():
    image, mask = Image.new("RGB", (2, 1), (0, 0, 0)), Image.new("L", (2, 1), 255)
    image.putpixel((1, 0), (128, 128, 128))
    mask.putpixel((1, 0), 127)  # black that covers half of its pixel
    recolored = recolor(image, mask, "red")
    assert recolored.getpixel((0, 0)) == WORDS["red"]
    assert recolored.getpixel((1, 0)) == tuple(round(255 + 127 / 255 * (value - 255)) for value in WORDS["red"])


def test_unknown_color():
    with pytest.raises(ValueError, match=r"no color for the word 'mauve'\. Use one of red"):
        recolor(Image.new("RGB", (2, 2)), Image.new("L", (2, 2), 255), "mauve")


def test_paper_stands_out_from_colors():
    chance = random.Random(0)
    for color in WORDS.values():
        papers = [random_paper(chance, avoid=[color]) for _ in range(20)]
        assert min(np.linalg.norm(np.subtract(paper, color)) for paper in papers) >= 90
    assert random_paper(random.Random(1)) == random_paper(random.Random(1)) != random_paper(random.Random(2))


def test_paper_for_colors_that_leave_no_room_is_found():
    everywhere = [(r, g, b) for r in range(0, 256, 60) for g in range(0, 256, 60) for b in range(0, 256, 60)]
    assert len(random_paper(random.Random(0), avoid=everywhere)) == 3


def test_on_paper_is_exact():
    image, mask = Image.new("RGB", (3, 1), "white"), Image.new("L", (3, 1))
    image.putpixel((0, 0), (10, 20, 30))
    image.putpixel((1, 0), (255, 204, 153))
    mask.putpixel((0, 0), 255)
    mask.putpixel((1, 0), 102)  # 40 % of it is covered
    laid = on_paper(image, mask, (55, 155, 255))
    assert [laid.getpixel((x, 0)) for x in range(3)] == [(10, 20, 30), (135, 144, 153), (55, 155, 255)]


def square() -> tuple[Image.Image, Image.Image]:
    """A yellow square of 20 x 20 in the middle of 32 x 32."""
    image, mask = Image.new("RGB", (32, 32), "white"), Image.new("L", (32, 32))
    image.paste((250, 220, 60), (6, 6, 26, 26))
    mask.paste(255, (6, 6, 26, 26))
    return image, mask


def test_lines_are_the_contour():
    across = np.zeros(32, dtype=bool)
    across[[5, 6, 25, 26]] = True  # the pixels on both sides of an edge
    drawn, mask = line_drawing(*square())
    for black in (np.asarray(lines(*square())) == 255, np.asarray(drawn)[..., 0] == 0, np.asarray(mask) == 255):
        assert (black[10:22] == across).all() and (black.T[10:22] == across).all()
        assert not black[8:24, 8:24].any() and not black[:5].any()


def test_outline_widens_the_drawing_by_a_pixel():
    image, mask = outlined(*square())
    assert mask.getbbox() == (5, 5, 27, 27)
    assert image.getpixel((5, 5)) == (0, 0, 0) and image.getpixel((16, 16)) == (250, 220, 60)


def test_grey_blur_and_jpeg():
    image, _ = square()
    assert (
        grey(image).getpixel((16, 16)) == (Image.new("RGB", (1, 1), (250, 220, 60)).convert("L").getpixel((0, 0)),) * 3
    )
    soft = np.asarray(blurred(image, 1.0), dtype=float)
    assert soft.mean() == pytest.approx(np.asarray(image).mean(), abs=1) and 60 < soft[16, 6, 2] < 255
    bad, good = (
        np.abs(np.asarray(as_jpeg(image, quality), dtype=float) - np.asarray(image)).mean() for quality in (30, 95)
    )
    assert 0 < good < bad / 2 and bad < 15


# Views


def test_views_are_the_same_for_the_same_seed():
    row = drawing(1)
    first, second, third = ([np.asarray(view) for view in views(row, 6, seed)] for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first[1:], third[1:], strict=True))
    assert np.array_equal(first[0], np.asarray(row["image"]))
    assert len({view.tobytes() for view in first}) == 6 and all(view.shape == (SIZE, SIZE, 3) for view in first)


def test_views_know_all_effects():
    row = drawing(2)
    shown = [np.asarray(view, dtype=float) for view in list(views(row, 200, seed=0))[1:]]
    corners = [view[-4:, -4:].mean(axis=(0, 1)) for view in shown]
    papers = sum(np.ptp(corner) > 8 for corner in corners)
    assert 30 < papers < 80  # three in ten, some of them as good as grey
    colorless = sum(np.ptp(view, axis=-1).max() <= 3 for view in shown)
    assert 10 < colorless < 50  # grey or lines, on white paper


def test_views_keep_a_color_that_is_in_the_name(monkeypatch):
    def forbidden(*args):
        raise AssertionError("a red apple is not grey")

    monkeypatch.setattr(views_module, "grey", forbidden)
    monkeypatch.setattr(views_module, "line_drawing", forbidden)
    assert len(list(views(drawing(1, "red apple"), 100, seed=0))) == 100
    with pytest.raises(AssertionError, match="not grey"):
        list(views(drawing(1, "owl"), 100, seed=0))


@pytest.mark.parametrize(("name", "mirrored"), [("left-facing fist", 0), ("owl", 50)])
def test_sided_drawings_are_not_mirrored(name, mirrored):
    image, mask = Image.new("RGB", (64, 64), "white"), Image.new("L", (64, 64))
    image.paste((0, 0, 0), (4, 16, 20, 48))  # on the left
    mask.paste(255, (4, 16, 20, 48))
    row = {"image": image, "mask": mask, "name": name}
    dark = [255 - np.asarray(grey(view), dtype=float)[..., 0] for view in views(row, 101, seed=0)]
    dark = [view - np.median(view) for view in dark]  # without the paper
    right = sum(view[:, 32:].sum() > view[:, :32].sum() for view in dark)
    assert abs(right - mirrored) <= 15 * (mirrored > 0)


def test_views_without_mask_stay_on_their_paper():
    row = {key: value for key, value in drawing(1).items() if key != "mask"}
    assert len(list(views(row, 5, seed=0))) == 5


# What is drawn of a sheet


def test_drawn_share_of_patches():
    coverage = np.zeros((8, 8), dtype=np.float32)
    coverage[0:4, 0:2] = 1  # half of the first patch
    coverage[4:6, 4:8] = 0.5  # a quarter of the last
    assert drawn_by_patch(coverage, 4).tolist() == [[0.5, 0.0], [0.0, 0.25]]


def test_distance_from_the_next_drawing():
    drawn = np.zeros((4, 5))
    drawn[0, 0], drawn[3, 4], drawn[1, 4] = 0.3, 0.9, 1 / 300  # the last is less than a pixel of 256
    assert distance_by_patch(drawn, 16).tolist() == [
        [0, 1, 2, 3, 3],
        [1, 1, 2, 2, 2],
        [2, 2, 2, 1, 1],
        [3, 3, 2, 1, 0],
    ]


def test_empty_sheet_is_far_from_everything():
    assert (distance_by_patch(np.zeros((4, 4)), 16) == 8).all()


def test_composed_sheet():
    image, mask = Image.new("RGB", (2, 1), (100, 100, 100)), Image.new("L", (2, 1), 255)
    image.putpixel((1, 0), (155, 155, 155))
    mask.putpixel((1, 0), 102)
    sheet, coverage = compose([(image, mask)], [(1, 2, 3, 3)], (200, 210, 220), 4)
    assert sheet.getpixel((1, 2)) == (100, 100, 100) and sheet.getpixel((2, 2)) == (122, 128, 134)
    assert coverage[2].tolist() == pytest.approx([0, 1, 0.4, 0]) and coverage.sum() == pytest.approx(1.4)
    assert sheet.getpixel((0, 0)) == (200, 210, 220)


def test_place_keeps_sizes_and_shapes():
    layers = [(Image.new("RGB", shape), Image.new("L", shape, 255)) for shape in ((40, 20), (10, 30))]
    settings = SheetSettings(sizes={2: (32, 32)})
    scaled, boxes = place(layers, settings, random.Random(0))
    assert [image.size for image, _ in scaled] == [(32, 16), (11, 32)]
    assert [(right - left, bottom - top) for left, top, right, bottom in boxes] == [(32, 16), (11, 32)]


def test_place_makes_drawings_smaller_that_do_not_fit():
    layers = [(Image.new("RGB", (100, 100)), Image.new("L", (100, 100), 255))] * 4
    scaled, boxes = place(layers, SheetSettings(sizes={4: (128, 128)}), random.Random(0))
    assert all(image.width < 64 for image, _ in scaled)
    assert all(0 <= edge <= 128 for box in boxes for edge in box)


# Whole sheets


def test_masks_are_exact(sheets):
    for sheet in sheets[:200]:
        pixels, drawn = np.asarray(sheet.image), sheet.coverage > 0
        assert (pixels[~drawn] == sheet.paper).all()
        expected = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (item.box for item in sheet.placed))
        assert sheet.coverage.sum() == pytest.approx(expected)  # all these drawings fill their boxes
        share = drawn_by_patch(sheet.coverage, 16)
        assert share.shape == (8, 8) and share.sum() * 256 == pytest.approx(expected)
        far = distance_by_patch(share, 16) >= 2
        assert all(not share[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any() for y, x in np.argwhere(far))


def test_drawings_do_not_touch(sheets):
    for sheet in sheets:
        boxes = [item.box for item in sheet.placed]
        painted = np.zeros((128, 128), dtype=int)
        for left, top, right, bottom in boxes:
            painted[top:bottom, left:right] += 1
        assert painted.max() == 1


def test_colored_things_have_their_color(sheets):
    seen = 0
    for sheet in sheets[:200]:
        pixels = np.asarray(sheet.image, dtype=float)
        for item in sheet.placed:
            if item.thing.color:
                left, top, right, bottom = item.box
                mean = pixels[top:bottom, left:right].mean(axis=(0, 1))
                assert min(WORDS, key=lambda word: np.linalg.norm(mean - WORDS[word])) == item.thing.color
                seen += 1
    assert seen > 50


def test_captions_count_what_is_there(sheets):
    numbers = {"two": 2, "three": 3, "four": 4}
    for sheet in sheets:
        told = [numbers.get(phrase.split()[0], 1) for phrase in sheet.caption.split(" and ")]
        assert not re.match("an? ", sheet.caption) or len(sheet.placed) > 1  # as a drawing that is not on a sheet
        assert sum(told) == len(sheet.placed) and "," not in sheet.caption
        assert all(item.thing.noun.split()[-1][:4] in sheet.caption for item in sheet.placed)


def test_recolored_thing_loses_the_color_of_its_name(sheets):
    apples = [item.thing for sheet in sheets for item in sheet.placed if item.thing.name == "red apple"]
    assert {thing.noun for thing in apples if thing.color} == {"apple"}
    assert {thing.phrase for thing in apples if not thing.color} == {"red apple"}


def test_things_on_a_sheet_are_not_mistaken_for_each_other(sheets):
    for sheet in sheets:
        things = list({item.thing.name: item.thing for item in sheet.placed}.values())
        assert not any(a.may_be_mistaken_for(b) for a in things for b in things if a is not b)


def test_mistakable_names():
    things = Things(split_of({**NAMED, "black cat": "animal-mammal", "bus stop": "transport-ground"}, artists=1))
    by_name = {thing.name: thing for thing in things.all}
    assert by_name["cat"].may_be_mistaken_for(by_name["black cat"])
    assert by_name["bus stop"].may_be_mistaken_for(by_name["bus"])
    assert not by_name["orange book"].may_be_mistaken_for(by_name["red apple"])
    assert by_name["black cat"].in_color("red").phrase == "red cat"


def test_all_questions_are_answered_right(sheets):
    checked = Counter()
    for sheet in sheets:
        for question in sheet.questions:
            assert answer_by_looking(question.text, sheet.placed) == question.answer, question
            checked[question.kind] += 1
    assert checked.keys() == {"number", "color", "place", "kind", "yes_no"} and min(checked.values()) > 100


SIDE = "left of|right of|above|below"


def answer_by_looking(question: str, placed: list[Placed]) -> str:
    """The answer by what is where, found in another way than the one that the question was made by."""
    things = [item.thing for item in placed]
    if question == "How many drawings are there?":
        return str(len(placed))
    if match := re.fullmatch(r"How many (.+) are there\?", question):
        return str(sum(plural(thing.noun) == match[1] for thing in things if thing.is_countable))
    if match := re.fullmatch(r"What color (?:is|are) the (.+)\?", question):
        return one({thing.color for thing in things if match[1] in names_of(thing)})
    if match := re.fullmatch(r"What kind of (animal|food) is there\?", question):
        return one([thing.kind[1] for thing in things if thing.subcategory.startswith(match[1]) and thing.kind])
    if match := re.fullmatch(rf"What is ({SIDE}) the (.+)\?", question):
        item = one([item for item in placed if match[2] in (item.thing.noun, item.thing.phrase)])
        return one({other.thing.phrase for other in placed if other is not item and is_side(match[1], other, item)})
    if match := re.fullmatch(rf"(?:Is|Are) the (.+) ({SIDE}) the (.+)\?", question):
        first, second = (
            one([item for item in placed if name in (item.thing.noun, item.thing.phrase)])
            for name in (match[1], match[3])
        )
        return "yes" if is_side(match[2], first, second) else "no"
    if match := re.fullmatch(r"(?:Is|Are) there (?:an? )?(.+)\?", question):
        return "yes" if any(match[1] in (thing.phrase, *names_of(thing)) for thing in things) else "no"
    match = re.fullmatch(rf"(?:Is|Are) the (.+) ({'|'.join(WORDS)})\?", question)
    return "yes" if one({thing.color for thing in things if match[1] in names_of(thing)}) == match[2] else "no"


def names_of(thing) -> tuple[str, ...]:
    return (thing.noun, plural(thing.noun)) if thing.is_countable else (thing.noun,)


def one(found):
    assert len(found) == 1, found
    return next(iter(found))


def is_side(side: str, first: Placed, second: Placed) -> bool:
    a, b = first.box, second.box
    return {"left of": a[2] <= b[0], "right of": b[2] <= a[0], "above": a[3] <= b[1], "below": b[3] <= a[1]}[side]


@pytest.mark.parametrize(
    ("box", "side"),
    [
        ((0, 50, 20, 70), "left of"),
        ((90, 50, 99, 70), "right of"),
        ((50, 0, 70, 20), "above"),
        ((50, 80, 70, 99), "below"),
        ((0, 0, 20, 20), "above"),  # as far up as to the left: then what is higher counts
        ((30, 50, 50, 70), None),  # overlaps from the left
    ],
)
def test_beside_leaves_no_doubt(drawings, box, side):
    thing = Things(drawings).all[0]
    assert beside(Placed(thing, 0, box), Placed(thing, 1, (45, 45, 75, 75))) == side


@pytest.mark.slow
def test_answers_are_equally_frequent(drawings):
    maker = SheetMaker(drawings, seed="balance")
    asked = [question for index in range(2000) for question in maker[index].questions]
    answers = {
        kind: Counter(question.answer for question in asked if question.kind == kind)
        for kind in ("yes_no", "number", "color", "kind")
    }
    shares = {kind: {a: n / found.total() for a, n in found.items()} for kind, found in answers.items()}
    assert shares["yes_no"]["yes"] == pytest.approx(0.5, abs=0.04)
    assert all(shares["number"][str(number)] == pytest.approx(0.25, abs=0.05) for number in (1, 2, 3, 4))
    assert all(shares["color"][word] == pytest.approx(0.1, abs=0.035) for word in WORDS)
    animals = {"mammal", "bird", "reptile", "sea animal", "bug"}
    assert all(shares["kind"][kind] == pytest.approx(0.1, abs=0.05) for kind in animals)
    assert all(shares["kind"][kind] == pytest.approx(1 / 6, abs=0.06) for kind in ("fruit", "vegetable", "sweet"))


def test_sheets_do_not_depend_on_order(drawings, sheets):
    maker = SheetMaker(drawings, seed=0)
    for index in (7, 3):
        sheet = maker[index]
        assert sheet.image.tobytes() == sheets[index].image.tobytes()
        assert (sheet.caption, sheet.questions) == (sheets[index].caption, sheets[index].questions)
    other = SheetMaker(drawings, seed=1)
    assert sum(other[index].caption == sheets[index].caption for index in range(20)) < 3


def test_even_numbers_and_one_size(drawings):
    settings = SheetSettings(sizes=dict.fromkeys((1, 2, 3, 4), (36, 36)), plan="mixed", even=True)
    maker = SheetMaker(drawings, settings=settings)
    made = [maker[index] for index in range(40)]
    assert [len(sheet.placed) for sheet in made] == [1, 2, 3, 4] * 10
    sides = {max(item.box[2] - item.box[0], item.box[3] - item.box[1]) for sheet in made for item in sheet.placed}
    assert sides == {36}


def test_impossible_yes_no_is_not_asked(drawings):
    thing = next(thing for thing in Things(drawings).all if thing.name == "bread")
    alone = Plan("mixed", ((thing, 1),))
    for seed in range(20):
        asked = questions(alone, [Placed(thing, 0, (0, 0, 9, 9))], alone, random.Random(seed))
        assert [question.kind for question in asked] == ["number"]


@pytest.mark.slow
def test_a_color_in_the_question_says_nothing(drawings):
    maker = SheetMaker(drawings, seed="colors")
    asked = [question for index in range(3000) for question in maker[index].questions if question.kind == "yes_no"]
    there = [question for question in asked if " there " in question.text]
    colored = [question.answer for question in there if set(question.text.split()) & set(WORDS)]
    plain = [question.answer for question in there if not set(question.text.split()) & set(WORDS)]
    assert colored.count("yes") / len(colored) == pytest.approx(0.5, abs=0.06)
    assert plain.count("yes") / len(plain) == pytest.approx(0.5, abs=0.06)


# Guessing


def test_guesser_finds_what_words_give_away():
    asked = ["Is there a dog?", "Is there a cat?"] * 10
    guess = WordGuesser(asked, ["yes", "no"] * 10)
    assert [guess(text) for text in ("Is there a dog?", "Is there a cat?", "A dog?")] == ["yes", "no", "yes"]


def test_guesser_falls_back_to_the_most_frequent_answer():
    guess = WordGuesser(["What is it?"] * 3, ["a", "b", "b"])
    assert guess("What is it?") == "b" and guess("xyz") == "b"


def test_scores_of_guesses():
    train = [
        {"kinds": ["color"], "questions": [f"What color is the {n}?"], "answers": [a]}
        for n, a in [("sky", "blue"), ("sky", "blue"), ("grass", "green")]
    ]
    test = [
        {
            "kinds": ["color", "place"],
            "questions": ["What color is the grass?", "Where?"],
            "answers": ["green", "here"],
        },
        {"kinds": ["color"], "questions": ["What color is the sky?"], "answers": ["red"]},
    ]
    assert score_guesses(train, test) == {"color": {"number": 2, "most_frequent": 0.0, "by_words": 0.5}}


@pytest.mark.slow
def test_sheets_cannot_be_guessed(drawings):
    maker = SheetMaker(drawings, seed="guess")
    rows = [prepare_sheets.sheet_row(maker[index], 16) for index in range(1600)]
    scores = score_guesses(rows[:1200], rows[1200:])
    assert scores["yes_no"]["by_words"] == pytest.approx(0.5, abs=0.09)
    assert scores["number"]["by_words"] < 0.36 and scores["color"]["by_words"] < 0.2
    assert scores["kind"]["by_words"] < 0.5  # a third of foods, a fifth of animals
    assert scores["place"]["by_words"] < 0.2


@pytest.mark.parametrize(("asked", "answers"), [([], []), (["Is it?"], ["yes", "no"])])
def test_nothing_to_learn_from(asked, answers):
    with pytest.raises(ValueError, match="not enough to learn from"):
        WordGuesser(asked, answers)


# The set of sheets


@pytest.fixture(scope="module")
def data(tmp_path_factory, drawings) -> Path:
    folder = tmp_path_factory.mktemp("emoji") / "set"
    held_out = {"dog": "animal-mammal", "swan": "animal-bird", "pear": "food-fruit", "onion": "food-vegetable"}
    held_out |= {"drum": "musical-instrument", "taxi": "transport-ground", "ring": "clothing", "bell": "sound"}
    datasets.DatasetDict({"train": drawings, "validation": split_of(held_out)}).save_to_disk(folder)
    return folder


SPLITS = {
    "train": prepare_sheets.SheetSplit("train", 24, SheetSettings()),
    "validation": prepare_sheets.SheetSplit("validation", 8, prepare_sheets.ONE_SIZE),
}


def test_set_of_sheets(tmp_path, data):
    made = prepare_sheets.prepare_sheets(data, tmp_path / "sheets", SPLITS)
    assert {name: len(split) for name, split in made.items()} == {"train": 24, "validation": 8}
    drawings = datasets.load_from_disk(data)
    for split in made:
        for row in made[split]:
            assert [drawings[split][number]["name"] for number in row["rows"]] == row["names"]
            assert len(row["drawn"]) == len(row["distance"]) == 64 and row["image"].size == (128, 128)
            assert all(
                (share < 1 / 256) == (far > 0) for share, far in zip(row["drawn"], row["distance"], strict=True)
            )
    assert not {name for row in made["train"] for name in row["names"]} & set(drawings["validation"]["name"])
    again = prepare_sheets.prepare_sheets(data, tmp_path / "again", SPLITS)
    without_images = [name for name in made["train"].column_names if name != "image"]
    for split in made:
        assert (
            made[split].select_columns(without_images).to_list()
            == again[split].select_columns(without_images).to_list()
        )
        assert all(
            a["image"].tobytes() == b["image"].tobytes() for a, b in zip(made[split], again[split], strict=True)
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "sheets"]


def test_existing_sheets_are_not_touched(tmp_path, data):
    with pytest.raises(FileExistsError, match="choose another --output"):
        prepare_sheets.prepare_sheets(data, tmp_path, SPLITS)


def test_missing_split(tmp_path, data):
    splits = {"test": prepare_sheets.SheetSplit("test_drawings", 4, SheetSettings())}
    with pytest.raises(ValueError, match="no split 'test_drawings', only train, validation"):
        prepare_sheets.prepare_sheets(data, tmp_path / "sheets", splits)


def test_failed_save_of_sheets_leaves_nothing_behind(tmp_path, data, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(datasets.DatasetDict, "save_to_disk", fail)
    with pytest.raises(OSError, match="No space left"):
        prepare_sheets.prepare_sheets(data, tmp_path / "sheets", SPLITS)
    assert not list(tmp_path.iterdir())


def test_too_few_things(drawings):
    with pytest.raises(ValueError, match="Only 1 things can be named on sheets, but 8 are needed"):
        SheetMaker(drawings.filter(lambda name: name == "cat", input_columns="name"))


def test_drawings_without_masks(drawings):
    with pytest.raises(ValueError, match=r"have no masks. Make the dataset again with prepare\.py"):
        SheetMaker(drawings.remove_columns("mask"))


def test_negative_index(drawings):
    with pytest.raises(IndexError, match="numbered from 0, not -1"):
        SheetMaker(drawings)[-1]


def test_bad_settings():
    with pytest.raises(ValueError, match="Patches of 24 pixels do not fill a sheet of 128"):
        SheetSettings(patch_size=24)
    with pytest.raises(
        ValueError, match=r"cannot have 20 to 200 pixels for sheets of 2\. Pass a range within 4 to 128"
    ):
        SheetSettings(sizes={2: (20, 200)})


# What is trained on


def test_pictures_are_half_single_drawings(tmp_path, data):
    splits = {"train": prepare_sheets.SheetSplit("train", 150, SheetSettings())}
    prepare_sheets.prepare_sheets(data, tmp_path / "sheets", splits)
    pictures = Pictures.load(data, "train", 2, tmp_path / "sheets")
    assert (len(pictures.drawings), len(pictures.sheets), len(pictures)) == (60, 120, 181)
    *shown, blank = pictures([58, 59, 60, 61, 180])
    assert [(picture["row"], picture["view"]) for picture in shown] == [
        (58, 0),
        (58, 1),
        (59, 0),
        (59, 1),
        (60, 0),
        (61, 0),
    ]
    sheet = pictures.sheets[0]
    assert shown[4]["name"] == sheet["caption"] and shown[4]["questions"] == sheet["questions"]
    assert shown[0]["name"] == pictures.drawings[58]["name"] and shown[0]["questions"] == []
    assert len(blank["image"].getcolors()) == 1
    assert (blank["row"], blank["name"]) == (180, "blank image")
    assert dict(zip(blank["questions"], blank["answers"]))["How many drawings are there?"] == "0"
    with pytest.raises(ValueError, match="no split 'validation', only train"):
        Pictures.load(data, "validation", 1, tmp_path / "sheets")


def test_pictures_of_some_concepts(data, monkeypatch):
    concepts = {f"{hash_free(name):X}" for name in ("cat", "bus")}
    monkeypatch.setattr("lavit_emoji.dataset.sources.spread_concepts", lambda number: concepts)
    pictures = Pictures.load(data, "train", 2, concepts=2)
    shown = list(pictures(range(len(pictures))))
    assert [(picture["row"], picture["view"]) for picture in shown] == [(i, view) for i in range(6) for view in (0, 1)]
    assert [picture["name"] for picture in shown[::2]] == ["cat", "bus"] * 3


def test_texts_of_a_sheet():
    row = {"name": "a cat and two dogs", "keywords": [], "category": "", "subcategory": "", "style": "sheet", "row": 3}
    row |= {"questions": ["How many dogs are there?", "Is there a cat?"], "answers": ["2", "yes"]}
    assert pair_texts(row) == {
        "texts": [
            *["a cat and two dogs"] * 3,
            "Question: How many dogs are there? Answer: 2",
            *["Question: Is there a cat? Answer: yes"] * 2,  # such questions stand twice
        ],
        "prompts": ["a cat and two dogs"],
        "written": False,
    }
    drawn = {"name": "cat", "keywords": ["pet"], "category": "animals-nature", "subcategory": "animal-mammal"}
    drawn |= {"style": "noto", "view": 0}
    drawn |= {"row": 7}
    assert pair_texts({**drawn, "questions": [], "answers": []}) == pair_texts(drawn)
    texts = pair_texts(drawn)["texts"]
    assert texts.count("cat") == len(texts) / 2 == 5


def test_whether_it_is_this_or_something_else():
    drawn = {"name": "cat", "keywords": ["pet", "dog food"], "row": 7}
    asked = [is_it_texts(drawn | {"view": view}) for view in range(200)]
    assert {yes for yes, _ in asked} == {"Question: Is this a cat? Answer: yes"}
    others = {no.removeprefix("Question: Is this ").removesuffix("? Answer: no") for _, no in asked}
    assert len(others) > 100 and not any("cat" in name.split() or "dog" in name.split() for name in others)
    assert is_it_texts(drawn | {"view": 3}) == asked[3]
    assert is_it_texts(drawn | {"name": "glasses", "view": 0}) == []  # not everyday
    books = is_it_texts(drawn | {"name": "books", "view": 0})
    assert books[0] == "Question: Are these books? Answer: yes"


def test_what_is_written_is_in_color_and_as_drawn():
    styles = {entry["name"] for entry in json.loads((PACKAGE_LIST).read_text())["styles"]}
    assert styles > WRITTEN_STYLES
    drawn = {"style": "noto", "view": 0}
    assert is_written_drawing(drawn)
    assert not is_written_drawing(drawn | {"view": 1})
    assert not is_written_drawing(drawn | {"style": "game-icons"})
    for name, expected in {
        "a cat and an apple": True,
        "a red hot dog and a bank": True,
        "a cat and two dogs": False,
        "two cats": False,
        "a cat": False,
        "a cat and a dog and an apple": False,
        "a man and woman holding hands and a cat": False,
    }.items():
        assert is_written_sheet({"name": name, "row": 48}) == expected, name
    assert not is_written_sheet({"name": "a cat and an apple", "row": 6})


def test_views_in_color_on_white_paper():
    red, grey_disc = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "white")
    red.paste((200, 0, 0), (16, 16, 48, 48))
    grey_disc.paste((90, 90, 90), (16, 16, 48, 48))
    view = {"style": "noto", "view": 2}
    assert choose_written.look_at(red) == pytest.approx((1.0, 200 / 255))
    assert choose_written.is_colored_view(view, red)
    assert not choose_written.is_colored_view(view, grey_disc)
    assert not choose_written.is_colored_view(view, Image.new("RGB", (64, 64), (200, 0, 0)))  # strange paper
    assert not choose_written.is_colored_view(view | {"view": 0}, red)
    assert not choose_written.is_colored_view(view | {"style": "game-icons"}, red)


def test_rows_that_codes_are_trained_on_last():
    """Drawings twice, their colored views once, and as many sheets as are asked for."""
    red = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(blank := io.BytesIO(), "PNG")
    image = Image.new("RGB", (64, 64), "white")
    image.paste((200, 0, 0), (16, 16, 48, 48))
    image.save(red, "PNG")
    rows = [("noto", 0, red), ("noto", 1, red), ("noto", 2, blank), ("game-icons", 0, blank), *[("sheet", 0, red)] * 3]
    features = datasets.Dataset.from_list([{"style": style, "view": view} for style, view, _ in rows])
    pictures = datasets.Dataset.from_list([{"image": picture.getvalue()} for *_, picture in rows])
    chosen = choose_written.choose_rows(features, pictures, 2, np.random.default_rng(0)).tolist()
    assert sorted(number for number in chosen if number < 4) == [0, 0, 1]
    assert len(chosen) == 5 and len({number for number in chosen if number >= 4}) == 2


def test_probe_finds_what_is_linear():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(choose_written.PROBE_HELD_OUT + 200, 16, 8, generator=generator) + 3
    right = torch.randn(2, 8, generator=generator)
    noise = torch.randn(*features.shape[:2], 1, generator=generator)
    values = torch.cat([features @ right.T, noise], dim=-1)
    values = values - values.mean(dim=(0, 1))
    weight, explained = choose_written.fit_probe(features, values)
    torch.testing.assert_close(weight[:2], right, rtol=0, atol=0.2)
    assert explained[:2].min() > 0.99 and explained[2] < 0.05


def test_words_of_sheets_for_the_text_tokenizer():
    rows = [{"caption": "two dogs", "questions": ["Is there a dog?"], "answers": ["yes"]}] * 2
    texts = written_on_sheets(datasets.Dataset.from_list(rows))
    assert texts == ["two dogs", "Question: Is there a dog? Answer: yes"]


def test_word_lists_hold_names_of_concepts():
    assert not NO_THINGS & MATERIALS
    assert all(can_be_named({"name": name, "subcategory": "food-asian"}) for name in MATERIALS)

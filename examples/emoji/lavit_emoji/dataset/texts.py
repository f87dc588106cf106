# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Creates training texts from rows of the emoji dataset and of sheets.

The texts about a drawing only contain what CLDR specifies: its name, keywords and kind, and a color or number if the
name contains one. Nothing is guessed from pixels. Answers contain no periods, commas or line breaks, because LaVIT
cuts off captions and answers there.
"""

import re
from collections.abc import Mapping


QUESTION = "Question: {} Answer:"

COLORS = "light blue|red|orange|yellow|green|blue|purple|pink|brown|black|white|grey"
COLORED = re.compile(rf"^(?P<color>{COLORS}) (?P<noun>.+)$")
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
COUNTED = re.compile(rf"^(?P<number>{'|'.join(NUMBERS)}) (?P<noun>\w+s)$")
PEOPLE = re.compile(r"^(?:family|kiss|couple with heart) of (?P<people>.+)$")

CATEGORIES = {
    "smileys-emotion": "emotion",
    "people-body": "people",
    "animals-nature": "nature",
    "food-drink": "food and drink",
    "travel-places": "travel and places",
    "activities": "activities",
    "objects": "objects",
}
KINDS = {
    "animal-mammal": ("animal", "mammal"),
    "animal-bird": ("animal", "bird"),
    "animal-reptile": ("animal", "reptile"),
    "animal-marine": ("animal", "sea animal"),
    "animal-bug": ("animal", "bug"),
    "plant-flower": ("plant", "flower"),
    "food-fruit": ("food", "fruit"),
    "food-vegetable": ("food", "vegetable"),
    "food-sweet": ("food", "sweet"),
    "musical-instrument": ("object", "musical instrument"),
}
NOT_OF_ITS_KIND = {"paw prints", "pig nose", "feather", "wing", "spiral shell", "spider web", "microbe", "coral"}
NOT_OF_ITS_COLOR = {"white flower"}  # a flower stamp that most artists draw in pink or red

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]|\[/?[A-Z]+\]|<[^<>\s]+>")


def text_problem(text: str, max_length: int) -> str | None:
    """
    Describes what is wrong with a name or a keyword.

    Args:
        text (`str`): The text.
        max_length (`int`): Maximum number of characters.

    Returns:
        `str` or `None`: `"is empty"`, `"is too long ..."` or `"holds a control token ..."`, that is, a control
        character or one of the tokenizer's special tokens (`[IMG]`, `</s>`, `<code_7>`). `None` if the text is valid.
    """
    if not text.strip():
        return "is empty"
    if len(text) > max_length:
        return f"is too long ({len(text)} characters, at most {max_length})"
    token = CONTROL.search(text)
    return f"holds a control token ({token.group()!r})" if token else None


def caption(row: Mapping) -> str:
    """The caption of the row's image: its name, such as `"red apple"`."""
    return row["name"]


def prompts(row: Mapping) -> list[str]:
    """
    Prompts for generating the row's image: the name, and the name with each keyword that adds to it.

    `"red apple"`, `"red apple, fruit"`, `"red apple, food"` ...
    """
    return [row["name"], *(f"{row['name']}, {keyword}" for keyword in _other_keywords(row))]


def questions(row: Mapping) -> list[tuple[str, str]]:
    """
    Questions that can be answered from the row's data, and their answers.

    Args:
        row (`Mapping`): A row with `name`, `category` and `subcategory`.

    Returns:
        `list[tuple[str, str]]`: Always the name and the category; also the kind, color and number if known.
    """
    answered = [("What is this?", row["name"]), ("What category is this?", CATEGORIES[row["category"]])]
    return answered + _kind(row) + _color(row) + _number(row)


def training_texts(row: Mapping) -> list[str]:
    """
    All texts that can follow the row's image: the caption, then the questions in LaVIT's prompt format.

    `"red apple"`, `"Question: What is this? Answer: red apple"`, `"Question: What color is it? Answer: red"` ...
    """
    return [caption(row), *(f"{QUESTION.format(question)} {answer}" for question, answer in questions(row))]


def sheet_texts(row: Mapping) -> list[str]:
    """All texts that can follow a sheet: its caption (in `name`), then its questions in LaVIT's prompt format."""
    asked = zip(row["questions"], row["answers"], strict=True)
    return [row["name"], *(f"{QUESTION.format(question)} {answer}" for question, answer in asked)]


def _other_keywords(row: Mapping) -> list[str]:
    words = set(row["name"].lower().split())
    return [keyword for keyword in row["keywords"] if not words.issuperset(keyword.lower().split())]


def _kind(row: Mapping) -> list[tuple[str, str]]:
    if row["subcategory"] not in KINDS or row["name"] in NOT_OF_ITS_KIND:
        return []
    noun, kind = KINDS[row["subcategory"]]
    return [(f"What kind of {noun} is this?", kind)]


def _color(row: Mapping) -> list[tuple[str, str]]:
    match = COLORED.match(row["name"])
    if match is None or row["name"] in NOT_OF_ITS_COLOR:
        return []
    return [(f"What color is the {match['noun']}?", match["color"])]


def _number(row: Mapping) -> list[tuple[str, str]]:
    counted, people = COUNTED.match(row["name"]), PEOPLE.match(row["name"])
    if counted:
        return [(f"How many {counted['noun']} are there?", str(NUMBERS[counted["number"]]))]
    if people:
        return [("How many people are there?", str(len(people["people"].split(" and "))))]
    return []

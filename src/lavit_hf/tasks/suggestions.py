# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Suggested questions and prompts from a model card. In the metadata of a card:

    lavit:
      knows: emoji
      questions: ["What is this?", "What color is it?"]
      prompts: [red apple, rocket]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub.constants import REPOCARD_NAME

from .repo_files import RepoFiles


CARD_KEY = "lavit"
MOST_TEXTS, LONGEST_TEXT = 8, 80  # a card may come from anyone

QUESTIONS = ("What is in the picture?", "What color is it?", "How many people are there?")
PROMPTS = ("a red apple", "a cat on a sofa", "a house by the sea")


@dataclass(frozen=True)
class Suggestions:
    """
    Suggested questions and prompts for a model.

    Args:
        knows (`str`, *optional*):
            Subject of its images, such as `"emoji"`, if it only knows one kind of images.
        questions (`tuple[str, ...]`, *optional*):
            Questions about an image.
        prompts (`tuple[str, ...]`, *optional*):
            Prompts to generate images from.
    """

    knows: str | None = None
    questions: tuple[str, ...] = QUESTIONS
    prompts: tuple[str, ...] = PROMPTS


def read_suggestions(files: RepoFiles) -> Suggestions:
    """
    Reads the suggestions of a repo.

    Args:
        files (`RepoFiles`):
            The repo.

    Returns:
        [`Suggestions`]: those of the card, with defaults for a model of photographs.
    """
    told = files.read_card(REPOCARD_NAME).get(CARD_KEY)
    told = told if isinstance(told, Mapping) else {}
    knows = _texts([told.get("knows")])
    return Suggestions(
        knows[0] if knows else None,
        _texts(told.get("questions")) or QUESTIONS,
        _texts(told.get("prompts")) or PROMPTS,
    )


def _texts(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else []
    return tuple(text for text in texts if isinstance(text, str) and 0 < len(text) <= LONGEST_TEXT)[:MOST_TEXTS]

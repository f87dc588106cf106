# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What is left of a generated answer when it is compared with others."""

import re
from functools import cache


# Where the original cuts its answers, so that nothing is left of what the model goes on to ask itself.
ANSWER_END = re.compile(r"\n|question:|Long answer:|,|\.")


def cut_answer(text: str) -> str:
    """The answer up to where the model goes on to ask itself something, without white space around it."""
    return ANSWER_END.split(text, maxsplit=1)[0].strip()


def lemmatize_answer(text: str) -> str:
    """Brings nouns and verbs to their base form; an `ImportError` says what to install where spaCy is missing."""
    words = load_spacy()(text)
    return "".join((word.lemma_ if word.pos_ in ("NOUN", "VERB") else word.text) + word.whitespace_ for word in words)


@cache
def load_spacy():
    """spaCy's small English model, loaded once."""
    try:
        import spacy

        return spacy.load("en_core_web_sm", exclude=["parser", "ner"])
    except (ImportError, OSError) as error:
        raise ImportError(
            "lemmatize=True needs spaCy and its English model: "
            "`pip install spacy` and `python -m spacy download en_core_web_sm`."
        ) from error

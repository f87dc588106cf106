# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Checks the additional requirements of scores (extras, Java and weights) before a model is loaded."""

import shutil
from importlib.util import find_spec
from pathlib import Path

from ..tasks.failures import Failure


EXTRA = "pip install 'lavit_hf[eval]'"
SPICE_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def check_caption_scorers(needs_java: bool) -> None:
    """Raises a [`Failure`] if CIDEr, BLEU and ROUGE cannot be computed."""
    _check_packages("scoring captions", "pycocoevalcap")
    if needs_java and not has_java():
        raise Failure(
            "there is no Java to split captions into words as for published scores. Install a Java runtime, or pass "
            "--tokenizer words, whose scores differ slightly."
        )


def check_picture_scorers(fid: bool, fid_weights: Path | None, clip: str) -> None:
    """Raises a [`Failure`] if FID and CLIP scores cannot be computed."""
    _check_packages("scoring images", "torchmetrics", *(["torch_fidelity"] if fid else []))
    if fid_weights is not None and not fid_weights.is_file():
        raise Failure(f"there is no file {fid_weights} with the Inception weights, which FID needs.")
    if Path(clip).is_absolute() and not Path(clip).is_dir():
        raise Failure(f"there is no folder {clip} with the CLIP weights.")


def check_lemmas() -> None:
    """Raises a [`Failure`] if answers cannot be lemmatized."""
    for package, way in (
        ("spacy", "pip install 'lavit_hf[lemmatize]'"),
        ("en_core_web_sm", "python -m spacy download en_core_web_sm"),
    ):
        if not _is_there(package):
            raise Failure(
                f"this protocol compares lemmas, which needs {package}. Run `{way}`, or pass --protocol own."
            )


def check_datasets() -> None:
    """Raises a [`Failure`] if the `datasets` library is missing."""
    _check_packages("reading a folder of the datasets library", "datasets")


def why_no_spice() -> str | None:
    """Returns what is missing for SPICE, or `None` if nothing is."""
    if not has_java():
        return "SPICE needs a Java runtime."
    folder = Path(find_spec("pycocoevalcap").submodule_search_locations[0], "spice", "lib")
    if not all((folder / name).is_file() for name in SPICE_MODELS):
        return (
            "SPICE needs Stanford CoreNLP 3.6.0. To download it, run `python -m "
            "pycocoevalcap.spice.get_stanford_models`."
        )
    return None


def has_java() -> bool:
    """Whether there is a Java runtime."""
    return shutil.which("java") is not None


def _check_packages(what: str, *packages: str) -> None:
    missing = [package for package in packages if not _is_there(package)]
    if missing:
        raise Failure(f"{what} needs {missing[0]}, which is not installed. Run `{EXTRA}`.")


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ValueError, ModuleNotFoundError):  # a module without a spec still exists
        return True

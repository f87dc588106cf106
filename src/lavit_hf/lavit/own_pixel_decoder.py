# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Loads the pixel decoder, or only its detokenizer, from the repo from which a model was loaded. Threads that need it at
the same time wait for the first of them to load it.
"""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME, cached_file

from .atomic_saving import LOADING
from .checkpoint_index import PIPELINE_INDEX_NAME
from .remote_code import load_pipeline, own_class


def load_pixel_decoder(model: PreTrainedModel) -> Any:
    """
    Loads the pixel decoder from a model's repo to the model's device. On accelerators, it gets the model's dtype; on a
    CPU, the default of [`LaVITPipeline`].

    Args:
        model (`LaVITForCausalLM`):
            The model.

    Returns:
        [`LaVITPipeline`] without a language model.

    Raises:
        ValueError: If the model's repo has no pixel decoder, or the model wasn't loaded from a repo.
    """
    repo, revision = _find_repo(model.name_or_path), getattr(model.config, "_commit_hash", None)
    dtype = None if model.device.type in ("cpu", "meta") else model.dtype
    if repo is None:
        raise ValueError(_describe_lack(model))
    with torch.random.fork_rng(devices=[]):  # loading must not change the images of a seed
        try:
            pipeline = load_pipeline(repo, revision, language_model=None, dtype=dtype)
        except RemoteEntryNotFoundError as error:
            raise ValueError(_describe_lack(model)) from error
    if pipeline.detokenizer.codebook is None:
        pipeline.detokenizer.set_codebook(model.visual_tokenizer.quantizer.codebook.weight)
    return pipeline if model.device.type == "meta" else pipeline.to(model.device)


DETOKENIZER_FOLDER = "detokenizer"


def load_detokenizer(model: PreTrainedModel) -> PreTrainedModel:
    """
    Loads only the detokenizer from a model's repo to the model's device, in fp32 on a CPU and in the model's dtype on
    other devices.

    Args:
        model (`LaVITForCausalLM` or `LaVITVisualTokenizer`):
            The model.

    Returns:
        [`LaVITDetokenizer`].

    Raises:
        ValueError: If the repo has no detokenizer, or the model wasn't loaded from a repo.
    """
    repo, revision = _find_repo(model.name_or_path), getattr(model.config, "_commit_hash", None)
    place = {"subfolder": DETOKENIZER_FOLDER, "revision": revision}
    if repo is None or cached_file(repo, CONFIG_NAME, **place, _raise_exceptions_for_missing_entries=False) is None:
        reason = f"{model.name_or_path} has none" if model.name_or_path else "the model was not loaded from a repo"
        raise ValueError(
            f"rebuilding features needs a detokenizer, and {reason}. Call "
            "visual_tokenizer.attach_detokenizer(LaVITDetokenizer.from_pretrained(path, "
            f"subfolder='{DETOKENIZER_FOLDER}')) with a repo that has one."
        )
    is_on_cpu = model.device.type in ("cpu", "meta")
    detokenizer_class = own_class("modeling_detokenizer", "LaVITDetokenizer", repo, revision)
    dtype = torch.float32 if is_on_cpu else model.dtype
    with torch.random.fork_rng(devices=[]):
        detokenizer = detokenizer_class.from_pretrained(repo, dtype=dtype, **place)
    return detokenizer.eval() if is_on_cpu else detokenizer.eval().to(model.device)


def attach_own_detokenizer(visual_tokenizer: PreTrainedModel, model: PreTrainedModel) -> None:
    """
    Attaches the detokenizer of the model's repo to a visual tokenizer, unless it already has one.

    Args:
        visual_tokenizer (`LaVITVisualTokenizer`):
            The visual tokenizer.
        model (`LaVITForCausalLM`, `LaVITModel` or `LaVITVisualTokenizer`):
            The model that was loaded from the repo.

    Raises:
        ValueError: As in [`load_detokenizer`].
    """
    if visual_tokenizer.has_detokenizer:
        return
    with LOADING:
        if not visual_tokenizer.has_detokenizer:  # another thread may have loaded it
            visual_tokenizer.attach_detokenizer(load_detokenizer(model))


def _find_repo(name: str) -> str | None:
    """Returns the pipeline repo that a model is in, possibly as a component; `None` if it isn't in one."""
    folder = Path(name)
    if not name or not folder.is_dir():
        return name or None
    folders = (folder, folder.absolute().parent)
    return next((str(folder) for folder in folders if (folder / PIPELINE_INDEX_NAME).is_file()), None)


def _describe_lack(model: PreTrainedModel) -> str:
    place = f"{model.name_or_path} has none" if model.name_or_path else "the model was not loaded from a repo"
    return (
        f"turning codes into pixels needs a pixel decoder, and {place}. Call "
        "model.attach_pixel_decoder(LaVITPipeline.from_pretrained(path, language_model=None)) with a repo that has "
        "one."
    )


__all__ = ["attach_own_detokenizer", "load_detokenizer", "load_pixel_decoder"]

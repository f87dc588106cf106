# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Loads all models of a repo, for the page and the server."""

import os
from pathlib import Path
from typing import NamedTuple

from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..pixels.pipeline_lavit import LaVITPipeline
from .loading import find_device, load_language_model, load_processor, without_library_bars
from .model_kinds import is_bundled
from .options import ModelOptions
from .painting import load_pipeline
from .pixel_decoders import has_decoder
from .repo_files import open_repo
from .repos import find_repo


NO_PIXEL_DECODER = "it has no pixel decoder. Convert it with --pixel-decoder highres or lowres."
UNKNOWN_PIXEL_DECODER = "the Hub cannot be reached, and the cache holds no pixel decoder of it. Check the network."


class WholeModel(NamedTuple):
    """
    The models of a repo.

    Args:
        name (`str`):
            Name of the repo, and of the adapter if there is one.
        processor (`LaVITProcessor`):
            The processor.
        language_model (`LaVITForCausalLM`):
            The language model.
        pipeline (`LaVITPipeline`, *optional*):
            The pipeline, without a progress bar; `None` without a pixel decoder.
        why_no_pipeline (`str`, *optional*):
            The reason if there is no pipeline.
    """

    name: str
    processor: LaVITProcessor
    language_model: LaVITForCausalLM
    pipeline: LaVITPipeline | None
    why_no_pipeline: str | None


def load_whole_model(options: ModelOptions) -> WholeModel:
    """
    Loads all models of a repo.

    Args:
        options (`ModelOptions`):
            The model and how to load it.

    Returns:
        [`WholeModel`].
    """
    repo = find_repo(options.model)
    find_device(options.device)  # fails before loading weights
    paints = has_decoder(open_repo(repo))
    with without_library_bars():
        processor = load_processor(repo, options)
        language_model = load_language_model(repo, options)
        pipeline = load_pipeline(repo, options, processor, language_model) if paints else None
    if pipeline is not None:
        pipeline.set_progress_bar_config(disable=True)
    reason = {True: None, False: NO_PIXEL_DECODER, None: UNKNOWN_PIXEL_DECODER}[paints]
    return WholeModel(_name(repo, options.model), processor, language_model, pipeline, reason)


def _name(repo: str, model: str | None) -> str:
    is_adapter = not is_bundled(model) and Path(repo).resolve() != Path(model).resolve()
    name = Path(os.path.abspath(repo)).name  # "." alone has no name
    return f"{name} with {model}" if is_adapter else name

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
from .options import ModelOptions
from .painting import load_pipeline
from .pixel_decoders import describe_decoder
from .repo_files import open_repo
from .repos import find_repo, is_bundled


NO_PIXEL_DECODER = "it has no pixel decoder. Convert it with --pixel-decoder highres or lowres."


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
            The pipeline, without a progress bar; `None` if the repo has no pixel decoder.
    """

    name: str
    processor: LaVITProcessor
    language_model: LaVITForCausalLM
    pipeline: LaVITPipeline | None


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
    paints = describe_decoder(open_repo(repo))["pixel_decoder"]["kind"] is not None
    with without_library_bars():
        processor = load_processor(repo, options)
        language_model = load_language_model(repo, options)
        pipeline = load_pipeline(repo, options, processor, language_model) if paints else None
    if pipeline is not None:
        pipeline.set_progress_bar_config(disable=True)
    return WholeModel(_name(repo, options.model), processor, language_model, pipeline)


def _name(repo: str, model: str | None) -> str:
    is_adapter = not is_bundled(model) and Path(repo).resolve() != Path(model).resolve()
    name = Path(os.path.abspath(repo)).name  # "." alone has no name
    return f"{name} with {model}" if is_adapter else name

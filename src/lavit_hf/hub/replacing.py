# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Saves a repo with a new language model and an unchanged pixel decoder."""

import json
import shutil
from pathlib import Path

from ..lavit.atomic_saving import atomic_update
from ..lavit.checkpoint_index import LANGUAGE_MODEL_FOLDER, PIPELINE_INDEX_NAME
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from .download import download_pipeline
from .pipeline_code import PIPELINE_FILE, write_pipeline_code
from .repo_layout import PROCESSOR_FOLDER


def save_with_pixel_decoder(model: LaVITForCausalLM, processor: LaVITProcessor, folder: Path, source: str) -> None:
    """
    Saves a finetuned model in the layout of the repo that it was loaded from, with that repo's pixel decoder, if any.

    Args:
        model ([`LaVITForCausalLM`]):
            The model.
        processor ([`LaVITProcessor`]):
            Its processor.
        folder (`Path`):
            Where to save it.
        source (`str`):
            Path or Hub id of the original repo, whose components are copied file by file.
    """
    origin = Path(source)
    if not origin.is_dir():
        origin = Path(download_pipeline(source, spared=[LANGUAGE_MODEL_FOLDER]))
    components = _find_components(origin)
    with atomic_update(folder) as new:
        for name in components:
            shutil.copytree(origin / name, new / name, dirs_exist_ok=True)
        if components:
            shutil.copy(origin / PIPELINE_INDEX_NAME, new)
            processor.save_pretrained(new / PROCESSOR_FOLDER)
        model.save_pretrained(new)  # for a pipeline, into the folder of its language model
        processor.save_pretrained(new)
        if components and (origin / PIPELINE_FILE).is_file():
            write_pipeline_code(new)


def _find_components(repo: Path) -> list[str]:
    """Returns the folders of a pipeline's components other than the language model and the processor."""
    index = repo / PIPELINE_INDEX_NAME
    names = json.loads(index.read_text()) if index.is_file() else {}
    own = (LANGUAGE_MODEL_FOLDER, PROCESSOR_FOLDER)
    return [name for name in names if name not in own and (repo / name).is_dir()]

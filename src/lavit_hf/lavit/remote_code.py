# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Ships the package's own source with a checkpoint, so that `trust_remote_code=True` loads it without lavit_hf."""

import json
import shutil
from pathlib import Path

from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME


MODEL_AUTO_MAP = {
    "AutoConfig": "configuration_lavit.LaVITConfig",
    "AutoModel": "modeling_lavit.LaVITForCausalLM",
    "AutoModelForCausalLM": "modeling_lavit.LaVITForCausalLM",
    "AutoModelForImageTextToText": "modeling_lavit.LaVITForCausalLM",
    "AutoModelForMultimodalLM": "modeling_lavit.LaVITForCausalLM",
}
IMAGE_PROCESSOR_AUTO_MAP = {
    "AutoImageProcessor": {
        "pil": "image_processing_pil_lavit.LaVITImageProcessorPil",
        "torchvision": "image_processing_lavit.LaVITImageProcessor",
    }
}
PROCESSOR_AUTO_MAP = {"AutoProcessor": "processing_lavit.LaVITProcessor"}


def write_remote_code(folder: str | Path) -> None:
    """
    Copies the modules that a saved LaVIT needs into its folder and names their classes in its configurations.

    Args:
        folder (`str` or `Path`):
            A folder with a saved model, and a saved processor if there is one.
    """
    folder = Path(folder)
    _edit_json(folder / CONFIG_NAME, lambda config: config | {"auto_map": MODEL_AUTO_MAP})
    _edit_json(folder / PROCESSOR_NAME, _map_processor)
    for path in _needed_modules():
        shutil.copyfile(path, folder / path.name)


def _map_processor(config: dict) -> dict:
    image_processor = config["image_processor"] | {"auto_map": IMAGE_PROCESSOR_AUTO_MAP}
    return config | {"auto_map": PROCESSOR_AUTO_MAP, "image_processor": image_processor}


def _edit_json(path: Path, change) -> None:
    if path.is_file():
        path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")


def _needed_modules() -> list[Path]:
    references = [*MODEL_AUTO_MAP.values(), *PROCESSOR_AUTO_MAP.values()]
    references += IMAGE_PROCESSOR_AUTO_MAP["AutoImageProcessor"].values()
    package = Path(__file__).parent
    modules = {package / f"{reference.split('.')[0]}.py" for reference in references}
    imported = {Path(path) for module in modules for path in get_relative_import_files(module)}
    return sorted(modules | imported)

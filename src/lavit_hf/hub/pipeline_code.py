# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Source code in the repo of a pipeline, so that diffusers can load it without lavit_hf:

    DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo, trust_remote_code=True)

diffusers runs single files: `pipeline.py` in the top folder, and one in the folder of each component whose class isn't
part of transformers or diffusers. These files have a few lines each and import the classes from `code/`, as
transformers does. That folder contains the source of all subpackages, without subfolders.
"""

import json
import re
from pathlib import Path

from ..lavit.checkpoint_index import PIPELINE_INDEX_NAME
from ..lavit.remote_code import CODE_FOLDER, remove_remote_code, write_remote_code


# The file that diffusers runs for `custom_pipeline`. It must contain exactly one pipeline class.
PIPELINE_FILE = "pipeline.py"

PIPELINE = f"{CODE_FOLDER}/pipeline_lavit.LaVITPipeline"

# For the class of each of our components: its module, the base class by which diffusers decides how to load it, and
# where to load it from. The source of a processor's image processor is only in the top folder.
COMPONENTS = {
    "LaVITForCausalLM": ("modeling_lavit", "transformers.PreTrainedModel", "folder"),
    "LaVITProcessor": ("processing_lavit", "transformers.ProcessorMixin", "repo, trust_remote_code=True"),
    "LaVITDetokenizer": ("modeling_detokenizer", "transformers.PreTrainedModel", "folder"),
    "PatchAutoencoder": ("patch_autoencoder", "diffusers.ModelMixin", "folder"),
}

COMPONENT_SHIM = '''"""Lets diffusers find a component of LaVIT, its source in this repo's folder `{code_folder}`."""

import sys
from pathlib import Path

from {library} import {base}
from transformers import GenerationConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module


class {name}({base}):
    @classmethod
    def from_pretrained(cls, folder, **kwargs):
        repo, package = Path(folder).parent, sys.modules.get("lavit_hf")
        reference = "{code_folder}/{module}.{name}"
        component_class = package.{name} if package else get_class_from_dynamic_module(reference, str(repo))
        component = component_class.from_pretrained({place}, **kwargs)
        if hasattr(component, "generation_config") and not (Path(folder) / "generation_config.json").is_file():
            component.generation_config = GenerationConfig.from_pretrained(repo)  # diffusers downloads this one alone
        return component
'''

PIPELINE_SHIM = f'''"""Lets diffusers find LaVIT's pipeline, whose source is in this repo's folder `{CODE_FOLDER}`."""

import sys
from pathlib import Path

from diffusers import DiffusionPipeline
from transformers.dynamic_module_utils import get_class_from_dynamic_module


class LaVITPipeline(DiffusionPipeline):
    _optional_components = ["language_model", "safety_checker", "feature_extractor"]

    def __new__(cls, code=None, **components):
        package, repo = sys.modules.get("lavit_hf"), Path(components["detokenizer"].name_or_path).parent
        pipeline_class = (
            package.LaVITPipeline if package else get_class_from_dynamic_module("{PIPELINE}", str(repo))
        )
        return pipeline_class(**components)

    def __init__(
        self,
        language_model,
        processor,
        detokenizer,
        unet,
        vae,
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        default_guidance_scale=None,
        default_num_inference_steps=None,
        code=None,
    ):
        """Never runs: it tells diffusers what the components are."""
'''


def write_pipeline_code(folder: Path) -> None:
    """
    Writes the code that lets transformers and diffusers load a full repo with `trust_remote_code=True`.

    Args:
        folder (`Path`):
            The repo, which is complete except for this code.
    """
    write_remote_code(folder)
    for path in find_sources(_entry()):
        (folder / CODE_FOLDER / path.name).write_text(flatten_imports(path.read_text()))
    (folder / PIPELINE_FILE).write_text(PIPELINE_SHIM)
    index_file = folder / PIPELINE_INDEX_NAME
    index = json.loads(index_file.read_text())
    for component, entry in index.items():
        if isinstance(entry, list) and entry[1] in COMPONENTS:
            index[component] = [COMPONENTS[entry[1]][0], entry[1]]
            remove_remote_code(folder / component)
            _write_component_shim(folder / component, entry[1])
    # A component that doesn't exist. Its name makes diffusers download the folder.
    index[CODE_FOLDER] = [None, None]
    index_file.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _write_component_shim(folder: Path, name: str) -> None:
    module, base, place = COMPONENTS[name]
    library, base = base.split(".")
    shim = COMPONENT_SHIM.format(
        code_folder=CODE_FOLDER, library=library, base=base, name=name, module=module, place=place
    )
    (folder / f"{module}.py").write_text(shim)


# The source of several subpackages in one folder.

_RELATIVE_IMPORT = re.compile(r"^(\s*from )(\.+)((?:\w+\.)*)(\w+)(?= import)", re.MULTILINE)


def _entry() -> Path:
    """Returns the pipeline's module in the package or, if this source was loaded from a repo, in the same folder."""
    module = f"{PIPELINE.split('/')[1].split('.')[0]}.py"
    beside = Path(__file__).with_name(module)
    return beside if beside.is_file() else Path(__file__).parents[1] / "pixels" / module


def find_sources(entry: Path) -> list[Path]:
    """Returns a module and all modules of this package that it imports, sorted."""
    found, waiting = set(), [entry]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [_resolve(path, *match.groups()[1:]) for match in _RELATIVE_IMPORT.finditer(path.read_text())]
    return sorted(found)


def _resolve(path: Path, dots: str, rooms: str, module: str) -> Path:
    return path.parents[len(dots) - 1].joinpath(*rooms.split(".")[:-1], f"{module}.py")


def flatten_imports(source: str) -> str:
    """Rewrites the imports of a module for a single folder that contains all modules of the package."""
    return _RELATIVE_IMPORT.sub(r"\1.\4", source)


__all__ = [
    "COMPONENTS",
    "PIPELINE_FILE",
    "find_sources",
    "flatten_imports",
    "write_pipeline_code",
]

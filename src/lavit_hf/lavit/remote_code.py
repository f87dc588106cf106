# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Ships the source of this folder with a repo, so that `trust_remote_code=True` loads it where lavit_hf is missing."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.dynamic_module_utils import get_class_from_dynamic_module, get_relative_import_files
from transformers.utils import (
    CONFIG_NAME,
    IMAGE_PROCESSOR_NAME,
    PROCESSOR_NAME,
    TRANSFORMERS_DYNAMIC_MODULE_NAME,
)

from .atomic_saving import saves_atomically
from .checkpoint_index import CODE_FOLDER, fit_to_published


if TYPE_CHECKING:
    # transformers takes along what a module imports, without looking when: where one comes from a repo all of them do,
    # and can be written into the next.
    from .image_processing_lavit import LaVITImageProcessor  # noqa: F401
    from .image_processing_pil_lavit import LaVITImageProcessorPil  # noqa: F401
    from .modeling_lavit import LaVITForCausalLM  # noqa: F401
    from .processing_lavit import LaVITProcessor  # noqa: F401


_LANGUAGE_MODEL = f"{CODE_FOLDER}/modeling_lavit.LaVITForCausalLM"

# The classes behind the Auto classes, by the model type of a configuration.
MODEL_AUTO_MAPS = {
    "lavit": {
        "AutoConfig": f"{CODE_FOLDER}/configuration_lavit.LaVITConfig",
        "AutoModel": _LANGUAGE_MODEL,
        "AutoModelForCausalLM": _LANGUAGE_MODEL,
        "AutoModelForImageTextToText": _LANGUAGE_MODEL,
        "AutoModelForMultimodalLM": _LANGUAGE_MODEL,
    },
    "lavit_visual_tokenizer": {
        "AutoConfig": f"{CODE_FOLDER}/configuration_lavit.LaVITVisualTokenizerConfig",
        "AutoModel": f"{CODE_FOLDER}/modeling_visual_tokenizer.LaVITVisualTokenizer",
    },
}
IMAGE_PROCESSOR_AUTO_MAP = {
    "AutoImageProcessor": {
        "pil": f"{CODE_FOLDER}/image_processing_pil_lavit.LaVITImageProcessorPil",
        "torchvision": f"{CODE_FOLDER}/image_processing_lavit.LaVITImageProcessor",
    }
}
PROCESSOR_AUTO_MAP = {"AutoProcessor": f"{CODE_FOLDER}/processing_lavit.LaVITProcessor"}


def ships_code(saved_class: type) -> type:
    """
    Class decorator for what transformers saves: `push_to_hub` puts the source beside it, and `save_pretrained` does so
    with `include_code=True`, where the folder has it already, or where the class itself came out of a repo. A folder
    without the source does not promise it.
    """
    save, upload, to_dict = (
        getattr(saved_class, name, None) for name in ("save_pretrained", "_upload_modified_files", "to_dict")
    )
    travels_on = comes_from_a_repo(saved_class)

    @saves_atomically
    @wraps(save)
    def save_pretrained(self, save_directory: str | os.PathLike, *args, include_code: bool = False, **kwargs) -> Any:
        saved = save(self, save_directory, *args, **kwargs)
        if include_code or travels_on or (Path(save_directory) / CODE_FOLDER / Path(__file__).name).is_file():
            write_remote_code(save_directory)
        return saved

    @wraps(upload)
    def upload_modified_files(self, working_dir: str | os.PathLike, repo_id: str, *args, **kwargs) -> Any:
        # The one step that every way to the Hub takes between saving and uploading.
        fit_to_published(Path(working_dir), repo_id, kwargs.get("token"), kwargs.get("revision"))
        write_remote_code(working_dir)
        return upload(self, working_dir, repo_id, *args, **kwargs)

    saved_class.save_pretrained, saved_class._upload_modified_files = save_pretrained, upload_modified_files
    if to_dict is not None:
        saved_class.to_dict = _without_promise(to_dict)
    # transformers would save the source of a class that it loaded from a repo in its own way, for one Auto class.
    saved_class.register_for_auto_class = classmethod(lambda cls, auto_class=None: None)
    return saved_class


def comes_from_a_repo(some_class: type) -> bool:
    """Whether transformers took a class out of a repo's source."""
    return some_class.__module__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")


def _without_promise(to_dict: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @wraps(to_dict)
    def without_promise(*args, **kwargs) -> dict[str, Any]:
        return {name: value for name, value in to_dict(*args, **kwargs).items() if name != "auto_map"}

    return without_promise


def load_pipeline(repo: str, revision: str | None = None, **kwargs: Any) -> Any:
    """
    Loads LaVIT's diffusion pipeline by the package or, where this source came out of a repo, by that of the repo.

    Args:
        repo (`str`):
            Path or Hub id.
        revision (`str`, *optional*):
            The repo's revision.
        kwargs:
            What else `DiffusionPipeline.from_pretrained` takes.

    Returns:
        [`LaVITPipeline`].
    """
    package = __name__.split(".")[0]
    if package != TRANSFORMERS_DYNAMIC_MODULE_NAME:
        return sys.modules[package].LaVITPipeline.from_pretrained(repo, revision=revision, **kwargs)
    from diffusers import DiffusionPipeline  # which nothing but images needs

    source = {"custom_pipeline": repo, "custom_revision": revision, "trust_remote_code": True}
    return DiffusionPipeline.from_pretrained(repo, revision=revision, **source, **kwargs)


def own_class(module: str, name: str, repo: str, revision: str | None = None) -> type:
    """
    A class that is no part of the model, out of the package or, where this source came out of a repo, of that repo.

    Args:
        module (`str`):
            The module that holds it.
        name (`str`):
            Its name.
        repo (`str`):
            Path or Hub id.
        revision (`str`, *optional*):
            The repo's revision.
    """
    package = __name__.split(".")[0]
    if package != TRANSFORMERS_DYNAMIC_MODULE_NAME:
        return getattr(sys.modules[package], name)
    return get_class_from_dynamic_module(f"{CODE_FOLDER}/{module}.{name}", repo, revision=revision)


def write_remote_code(folder: str | os.PathLike) -> None:
    """
    Copies the modules that a saved LaVIT needs into its folder and names their classes in its configurations.

    Args:
        folder (`str` or `os.PathLike`):
            A folder with a saved model, a saved processor, or both.
    """
    folder = Path(folder)
    _edit_json(folder / CONFIG_NAME, _map_model)
    _edit_json(folder / PROCESSOR_NAME, _map_processor)
    _edit_json(folder / IMAGE_PROCESSOR_NAME, lambda config: config | {"auto_map": IMAGE_PROCESSOR_AUTO_MAP})
    (folder / CODE_FOLDER).mkdir(exist_ok=True)
    for path in _needed_modules():
        shutil.copyfile(path, folder / CODE_FOLDER / path.name)


def remove_remote_code(folder: str | os.PathLike) -> None:
    """Takes away what [`write_remote_code`] has written into a folder that shall not have it, as a pipeline's part."""
    folder = Path(folder)
    for name in (CONFIG_NAME, PROCESSOR_NAME, IMAGE_PROCESSOR_NAME):
        _edit_json(folder / name, _unmap)
    shutil.rmtree(folder / CODE_FOLDER, ignore_errors=True)


def _unmap(config: dict) -> dict:
    config = {name: value for name, value in config.items() if name != "auto_map"}
    return {name: _unmap(value) if name == "image_processor" else value for name, value in config.items()}


def _map_model(config: dict) -> dict:
    auto_map = MODEL_AUTO_MAPS.get(config["model_type"])  # of a pipeline's other components there is none
    return config if auto_map is None else config | {"auto_map": auto_map}


def _map_processor(config: dict) -> dict:
    image_processor = config["image_processor"] | {"auto_map": IMAGE_PROCESSOR_AUTO_MAP}
    return config | {"auto_map": PROCESSOR_AUTO_MAP, "image_processor": image_processor}


def _edit_json(path: Path, change: Callable[[dict], dict]) -> None:
    if path.is_file():
        path.write_text(json.dumps(change(json.loads(path.read_text())), indent=2, sort_keys=True) + "\n")


def _needed_modules() -> list[Path]:
    references = [*MODEL_AUTO_MAPS["lavit"].values(), *PROCESSOR_AUTO_MAP.values()]
    references += IMAGE_PROCESSOR_AUTO_MAP["AutoImageProcessor"].values()
    names = {reference.split(".")[0].split("/")[1] for reference in references}
    modules = {Path(__file__).parent / f"{name}.py" for name in names}
    imported = {Path(path) for module in modules for path in get_relative_import_files(module)}
    return sorted(modules | imported)


__all__ = ["comes_from_a_repo", "load_pipeline", "own_class", "remove_remote_code", "ships_code", "write_remote_code"]

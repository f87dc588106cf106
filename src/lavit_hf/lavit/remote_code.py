# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Ships the source of this folder with a repo, so that `trust_remote_code=True` can load it without lavit_hf."""

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
    # transformers copies everything that a module imports, even if it never runs. This way, a class loaded from a repo
    # comes with all of these modules and can write them to another repo.
    from .image_processing_lavit import LaVITImageProcessor  # noqa: F401
    from .image_processing_pil_lavit import LaVITImageProcessorPil  # noqa: F401
    from .modeling_lavit import LaVITForCausalLM  # noqa: F401
    from .processing_lavit import LaVITProcessor  # noqa: F401


_LANGUAGE_MODEL = f"{CODE_FOLDER}/modeling_lavit.LaVITForCausalLM"

# The classes for each Auto class, by model type.
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
    Class decorator that ships the source code with everything that transformers saves. `push_to_hub` always adds the
    source; `save_pretrained` adds it with `include_code=True`, if the folder already contains it, or if the class
    itself was loaded from a repo. Without the source, the saved configurations don't refer to it.
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
        # Every upload to the Hub calls this between saving and uploading.
        fit_to_published(Path(working_dir), repo_id, kwargs.get("token"), kwargs.get("revision"))
        write_remote_code(working_dir)
        return upload(self, working_dir, repo_id, *args, **kwargs)

    saved_class.save_pretrained, saved_class._upload_modified_files = save_pretrained, upload_modified_files
    if to_dict is not None:
        saved_class.to_dict = _without_promise(to_dict)
    # transformers would save the source of classes loaded from a repo in its own way, for a single Auto class.
    saved_class.register_for_auto_class = classmethod(lambda cls, auto_class=None: None)
    return saved_class


def comes_from_a_repo(some_class: type) -> bool:
    """Whether transformers loaded a class from the source code in a repo."""
    return some_class.__module__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")


def _without_promise(to_dict: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @wraps(to_dict)
    def without_promise(*args, **kwargs) -> dict[str, Any]:
        return {name: value for name, value in to_dict(*args, **kwargs).items() if name != "auto_map"}

    return without_promise


def load_pipeline(repo: str, revision: str | None = None, **kwargs: Any) -> Any:
    """
    Loads LaVIT's diffusion pipeline with the package or, if this source was loaded from a repo, with the code in
    `repo`.

    Args:
        repo (`str`):
            Path or Hub id.
        revision (`str`, *optional*):
            The repo's revision.
        kwargs:
            Other arguments of `DiffusionPipeline.from_pretrained`.

    Returns:
        [`LaVITPipeline`].
    """
    package = __name__.split(".")[0]
    if package != TRANSFORMERS_DYNAMIC_MODULE_NAME:
        return sys.modules[package].LaVITPipeline.from_pretrained(repo, revision=revision, **kwargs)
    from diffusers import DiffusionPipeline  # only needed for images

    source = {"custom_pipeline": repo, "custom_revision": revision, "trust_remote_code": True}
    return DiffusionPipeline.from_pretrained(repo, revision=revision, **source, **kwargs)


def own_class(module: str, name: str, repo: str, revision: str | None = None) -> type:
    """
    Returns a class outside this folder from the package or, if this source was loaded from a repo, from the code in
    `repo`.

    Args:
        module (`str`):
            The module that contains the class.
        name (`str`):
            Name of the class.
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
    Copies the source code that a saved LaVIT needs to its folder, and registers the classes in its configurations.

    Args:
        folder (`str` or `os.PathLike`):
            A folder with a saved model, a saved processor, or both. Its contents are not checked: in a folder without
            a LaVIT, the configuration of another model stays as it is, but the code is copied, and the configuration
            of a processor or image processor is registered as LaVIT's.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    folder = Path(folder)
    _edit_json(folder / CONFIG_NAME, _map_model)
    _edit_json(folder / PROCESSOR_NAME, _map_processor)
    _edit_json(folder / IMAGE_PROCESSOR_NAME, lambda config: config | {"auto_map": IMAGE_PROCESSOR_AUTO_MAP})
    (folder / CODE_FOLDER).mkdir(exist_ok=True)
    for path in _needed_modules():
        shutil.copyfile(path, folder / CODE_FOLDER / path.name)


def remove_remote_code(folder: str | os.PathLike) -> None:
    """Removes everything that [`write_remote_code`] wrote, for example from the folder of a pipeline's component."""
    folder = Path(folder)
    for name in (CONFIG_NAME, PROCESSOR_NAME, IMAGE_PROCESSOR_NAME):
        _edit_json(folder / name, _unmap)
    shutil.rmtree(folder / CODE_FOLDER, ignore_errors=True)


def _unmap(config: dict) -> dict:
    config = {name: value for name, value in config.items() if name != "auto_map"}
    return {name: _unmap(value) if name == "image_processor" else value for name, value in config.items()}


def _map_model(config: dict) -> dict:
    auto_map = MODEL_AUTO_MAPS.get(config["model_type"])  # other components of a pipeline have none
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
